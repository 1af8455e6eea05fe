"""The policies as formulas, in milliseconds and without explanations: an independent statement to decide against."""

import bisect
import math


def normal_cdf(x):
    return 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))


class ReferenceTwoChannel:
    """The two-channel policy with its default constants."""

    def __init__(self, ladder):
        self.acc = [rung.accuracy for rung in ladder]
        self.ms = [rung.cpu_us / 1e3 for rung in ladder]
        self.cur, self.since, self.dwell, self.probe = len(ladder) - 1, 10**9, 6, 0
        self.gain = min(0.004, 0.05 * (max(self.acc) - min(self.acc)))
        self.speed, self.spread = 1.0, 0.03
        self.hits = self.fast_hits = self.cpu = self.fast_cpu = 0.0
        self.waits, self.earned, self.answered, self.before = [], [0.0] * len(ladder), 0, 0.0

    def would_have_earned(self, rung, wall, cpu, deadline):
        speed, wait, rate = cpu / self.ms[rung], wall - cpu if wall - cpu > 0.15 else 0.0, self.rate()
        self.answered += 1
        weight = max(1 - 0.5 ** (1 / 512), 1 / self.answered)
        for i, ms in enumerate(self.ms):
            slack = deadline - speed * ms
            p = slack >= 0
            if wait:
                share = min(1.0, ms / self.ms[rung])
                p = (1 - share) * p + share * (slack >= wait)
            if ms > self.ms[rung] and p:
                short = [each for each in self.waits if each <= slack - wait]
                meets_another = 1 - math.exp(-rate * speed * (ms - self.ms[rung]))
                p *= 1 - meets_another * (1 - (len(short) / len(self.waits) if self.waits else 0))
            self.earned[i] = (1 - weight) * self.earned[i] + weight * self.acc[i] * p

    def observe(self, rung, wall, cpu, deadline):
        self.would_have_earned(rung, wall, cpu, deadline)
        off = cpu / self.ms[rung] - self.speed
        large = off if abs(off) > 3 * 0.04 * self.speed else 0.0
        self.speed += (0.2 if not large else 0.7 if large * self.before > 0 else 0.35) * off
        self.before = large
        self.spread += 0.1 * (min(abs(off) / self.speed, 0.5) - self.spread)
        slow, fast = 0.5 ** (1 / 64), 0.5 ** (1 / 8)
        self.hits, self.cpu = self.hits * slow, self.cpu * slow + cpu
        self.fast_hits, self.fast_cpu = self.fast_hits * fast, self.fast_cpu * fast + cpu
        if wall - cpu > 0.15:
            self.hits, self.fast_hits = self.hits + 1, self.fast_hits + 1
            self.waits = [*self.waits, wall - cpu][-40:]
        if self.probe:
            self.probe -= 1
            if wall > deadline:
                self.dwell, self.probe = min(2 * self.dwell, 512), 0
            elif self.probe == 0:
                self.dwell = max(6, self.dwell // 2)

    def rate(self):
        slow = (self.hits + 0.02 + 0.5 * math.sqrt(self.hits)) / (self.cpu + 2.0)
        fast = (self.fast_hits + 0.02) / (self.fast_cpu + 2.0)
        return max(slow, 0.6 * fast)

    def choose(self, deadline):
        w, n = self.waits, len(self.waits)
        two = sorted(w[i] + w[(7 * i + 3) % n] for i in range(n))
        three = sorted(w[i] + w[(7 * i + 3) % n] + w[(11 * i + 5) % n] for i in range(n))
        utility = []
        for acc, ms in zip(self.acc, self.ms, strict=True):
            run = self.speed * ms
            slack = deadline - run
            p = normal_cdf(slack / (max(self.spread, 0.04) * run))
            r = self.rate() * run
            if slack <= 0:
                p *= min(0.5, math.exp(-r))
            elif n:
                within = [bisect.bisect_right(each, slack) / n for each in (sorted(w), two, three)]
                p *= math.exp(-r) * (1 + r * within[0] + r**2 / 2 * within[1] + r**3 / 6 * within[2])
            utility.append(acc * p)
        best = max(range(len(utility)), key=utility.__getitem__)
        old = self.cur
        incumbent = max(range(len(utility)), key=self.earned.__getitem__) if self.answered else None
        gain = self.gain * (0.5 if best == incumbent else 2.0 if old == incumbent else 1.0)
        if utility[best] <= self.gain:
            self.cur = 0
        elif utility[best] - utility[old] > gain and (best < old or self.since >= self.dwell):
            self.cur = best
        if self.cur != old:
            self.since, self.probe = 0, 16 if self.cur > old else 0
        self.since += 1
        return self.cur


class ReferenceAlert:
    """The latency part of ALERT, constants as recalled."""

    def __init__(self, ladder):
        self.acc = [rung.accuracy for rung in ladder]
        self.ms = [rung.cpu_us / 1e3 for rung in ladder]
        self.mean, self.var, self.gain, self.noise, self.last = 1.0, 0.1, 0.5, 0.1, 0.0

    def observe(self, rung, wall, cpu, deadline):
        innovation = wall / self.ms[rung] - self.mean
        self.noise = max(0.1, 0.3 * self.noise + 0.7 * (self.gain * self.last) ** 2)
        self.var = (1 - self.gain) * self.var + self.noise
        self.gain = self.var / (self.var + 0.001)
        self.mean += self.gain * innovation
        self.last = innovation

    def choose(self, deadline):
        scale = math.sqrt(self.var)
        utility = [
            acc * normal_cdf((deadline - self.mean * ms) / (scale * ms))
            for acc, ms in zip(self.acc, self.ms, strict=True)
        ]
        return max(range(len(utility)), key=utility.__getitem__)


class ReferenceThreshold:
    """Smoothed latency against 90 % and 50 % of the deadline."""

    def __init__(self, ladder):
        self.cur, self.top, self.smooth = len(ladder) - 1, len(ladder) - 1, None

    def observe(self, rung, wall, cpu, deadline):
        self.smooth = wall if self.smooth is None else 0.8 * self.smooth + 0.2 * wall

    def choose(self, deadline):
        if self.smooth is not None and self.smooth > 0.9 * deadline and self.cur > 0:
            self.cur, self.smooth = self.cur - 1, None
        elif self.smooth is not None and self.smooth < 0.5 * deadline and self.cur < self.top:
            self.cur, self.smooth = self.cur + 1, None
        return self.cur
