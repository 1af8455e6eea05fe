"""What the agent keeps on disk: blobs by content, one state record, and the rule for what may be deleted.

Rules these modules enforce, whatever operation the process dies after:
1. A file in blobs/ has exactly the bytes its name promises.
2. The state record names only blobs that are present.
3. Garbage collection never deletes what the record or a lease refers to.
"""
