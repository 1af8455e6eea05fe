/* Programs that touch one limit of a CPU each; see probes.py. Compiled for the device's own CPU, one PROBE at a time.

   Everything is inside: data is made at the first call, which the warm-up swallows. The work of a call does not depend
   on the vector width, so that the host knows it. */

#include <stdint.h>

typedef int (*Task)(int index, void *environment, void *data);
int TVMBackendParallelLaunch(Task task, void *data, int tasks); /* of libtvm_runtime.so */

#define MOST_THREADS 256
#define ALIGNED __attribute__((aligned(64)))

#if defined(PROBE_GEMM_FP32) || defined(PROBE_GEMM_FP16) || defined(PROBE_GEMM_BF16) || defined(PROBE_GEMM_INT8)

/* C = A B with A (96, DEPTH) and B (DEPTH, 128) packed into panels, as the inner loop of every good GEMM sees them
   (Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008). A group is what one 32-bit lane
   multiplies at once: one float, two halves, four bytes. */
#define ROWS 96
#define COLUMNS 128
#define DEPTH 192
#define REPEATS 4

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#if defined(PROBE_GEMM_FP32)
#define PER_GROUP 1
typedef float Group;
#if defined(__AVX512F__)
#define BYTES 64
#define TILE_ROWS 8
#elif defined(__AVX__)
#define BYTES 32
#define TILE_ROWS 4
#else
#define BYTES 16
#define TILE_ROWS 4
#endif
typedef float Vector __attribute__((vector_size(BYTES)));
#define MULTIPLY_ADD(sum, a, b) ((sum) + (a) * (b))

#elif defined(PROBE_GEMM_FP16) && (defined(__AVX512FP16__) || defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC))
#define PER_GROUP 1
typedef _Float16 Group;
#if defined(__AVX512FP16__)
#define BYTES 64
#else
#define BYTES 16
#endif
#define TILE_ROWS 8
typedef _Float16 Vector __attribute__((vector_size(BYTES)));
#define MULTIPLY_ADD(sum, a, b) ((sum) + (a) * (b))

#elif defined(PROBE_GEMM_BF16) && defined(__AVX512BF16__)
#define PER_GROUP 2
typedef int32_t Group;
#define BYTES 64
#define TILE_ROWS 8
typedef int32_t Vector __attribute__((vector_size(BYTES)));
#define MULTIPLY_ADD(sum, a, b) \
  ((Vector)_mm512_dpbf16_ps((__m512)(sum), (__m512bh)(a), (__m512bh)(b)))

#elif defined(PROBE_GEMM_BF16) && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define PER_GROUP 2
typedef int32_t Group;
#define BYTES 16
#define TILE_ROWS 8
typedef int32_t Vector __attribute__((vector_size(BYTES)));
#define MULTIPLY_ADD(sum, a, b) \
  ((Vector)vbfdotq_f32((float32x4_t)(sum), (bfloat16x8_t)(a), (bfloat16x8_t)(b)))

#elif defined(PROBE_GEMM_INT8) && defined(__AVX512VNNI__)
#define PER_GROUP 4
typedef int32_t Group;
#define BYTES 64
#define TILE_ROWS 8
typedef int32_t Vector __attribute__((vector_size(BYTES)));
#define MULTIPLY_ADD(sum, a, b) ((Vector)_mm512_dpbusd_epi32((__m512i)(sum), (__m512i)(a), (__m512i)(b)))

#elif defined(PROBE_GEMM_INT8) && defined(__AVXVNNI__)
#define PER_GROUP 4
typedef int32_t Group;
#define BYTES 32
#define TILE_ROWS 4
typedef int32_t Vector __attribute__((vector_size(BYTES)));
#define MULTIPLY_ADD(sum, a, b) ((Vector)_mm256_dpbusd_avx_epi32((__m256i)(sum), (__m256i)(a), (__m256i)(b)))

#elif defined(PROBE_GEMM_INT8) && defined(__ARM_FEATURE_DOTPROD)
#define PER_GROUP 4
typedef int32_t Group;
#define BYTES 16
#define TILE_ROWS 8
typedef int32_t Vector __attribute__((vector_size(BYTES)));
#define MULTIPLY_ADD(sum, a, b) ((Vector)vdotq_s32((int32x4_t)(sum), (int8x16_t)(a), (int8x16_t)(b)))

#else
#error "UNAVAILABLE: this CPU has no instructions for this type"
#endif

#define LANES ((int)(BYTES / sizeof(Group)))
#define TILE_VECTORS 2
#define TILE_COLUMNS (TILE_VECTORS * LANES)
#define GROUPS (DEPTH / PER_GROUP)

static Group left[ROWS / TILE_ROWS][GROUPS][TILE_ROWS] ALIGNED;
static Vector right[COLUMNS / TILE_COLUMNS][GROUPS][TILE_VECTORS] ALIGNED;
Vector product[MOST_THREADS][ROWS][COLUMNS / LANES] ALIGNED; /* not static: nobody reads it, and it must be written */
static int ready;

static void prepare(void) {
  /* Ones: 1.0 as float and half, a pair of bfloat16 ones, four bytes of one. */
#if defined(PROBE_GEMM_BF16)
  const Group one = 0x3f803f80;
#elif defined(PROBE_GEMM_INT8)
  const Group one = 0x01010101;
#else
  const Group one = 1;
#endif
  for (int i = 0; i < ROWS * GROUPS; i++) (&left[0][0][0])[i] = one;
  for (int i = 0; i < COLUMNS * GROUPS; i++) ((Group *)right)[i] = one;
}

static void multiply(int index) {
  for (int column = 0; column < COLUMNS / TILE_COLUMNS; column++) {
    for (int row = 0; row < ROWS / TILE_ROWS; row++) {
      Vector sum[TILE_ROWS][TILE_VECTORS] = {{{0}}};
      for (int k = 0; k < GROUPS; k++) {
#pragma GCC unroll 16
        for (int i = 0; i < TILE_ROWS; i++) {
          const Vector a = left[row][k][i] - (Vector){0};
#pragma GCC unroll 4
          for (int j = 0; j < TILE_VECTORS; j++) sum[i][j] = MULTIPLY_ADD(sum[i][j], a, right[column][k][j]);
        }
      }
#pragma GCC unroll 16
      for (int i = 0; i < TILE_ROWS; i++)
#pragma GCC unroll 4
        for (int j = 0; j < TILE_VECTORS; j++)
          product[index % MOST_THREADS][row * TILE_ROWS + i][column * TILE_VECTORS + j] = sum[i][j];
    }
  }
}

static int work(int index, void *environment, void *data) {
  (void)environment, (void)data;
  for (int repeat = 0; repeat < REPEATS; repeat++) {
    multiply(index);
    __asm__ volatile("" ::: "memory"); /* every product is wanted */
  }
  return 0;
}

static void run(void) {
  if (!ready) prepare();
  ready = 1;
  TVMBackendParallelLaunch(work, 0, 0);
}

#elif defined(PROBE_TRIAD)

/* a = b + s c (McCalpin, STREAM); COUNT doubles in each array, shared among the threads, placed by who uses them. */
double a[COUNT] ALIGNED, b[COUNT] ALIGNED, c[COUNT] ALIGNED; /* not static: or the compiler leaves the loop out */
static int ready;

typedef struct {
  void *sync;
  int32_t tasks;
} Environment;

static int work(int index, void *environment, void *data) {
  const int64_t tasks = ((Environment *)environment)->tasks;
  const int64_t first = COUNT * index / tasks, end = COUNT * (index + 1) / tasks;
  (void)data;
  if (!ready) {
    for (int64_t i = first; i < end; i++) a[i] = 0.0, b[i] = 1.0, c[i] = 2.0;
    return 0;
  }
  for (int64_t i = first; i < end; i++) a[i] = b[i] + 3.0 * c[i];
  return 0;
}

static void run(void) {
  TVMBackendParallelLaunch(work, 0, 0);
  ready = 1;
}

#elif defined(PROBE_CHASE)

/* Each load gives the next address: LOADS of them in a row, on one random cycle through LINES cache lines (Sattolo's
   algorithm), so that no prefetcher knows what comes. */
#define LOADS 65536
typedef struct {
  uint32_t next;
  uint32_t unused[15];
} Line;
static Line lines[LINES] ALIGNED;
static uint32_t at;
static int ready;

static void prepare(void) {
  uint64_t state = 88172645463325252u; /* xorshift64 (Marsaglia, 2003) */
  for (uint32_t i = 0; i < LINES; i++) lines[i].next = i;
  for (uint32_t i = LINES - 1; i > 0; i--) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    const uint32_t j = state % i, kept = lines[i].next;
    lines[i].next = lines[j].next, lines[j].next = kept;
  }
}

static void run(void) {
  if (!ready) prepare();
  ready = 1;
  uint32_t here = at;
  for (int i = 0; i < LOADS; i++) here = lines[here].next;
  at = here;
}

#else
#error "no PROBE is named"
#endif

/* What TVM's runtime looks for as `main`; the arguments are none. */
__attribute__((visibility("default"))) int __tvm_ffi_main(void *self, const void *arguments, int32_t count,
                                                          void *result) {
  (void)self, (void)arguments, (void)count, (void)result;
  run();
  return 0;
}
