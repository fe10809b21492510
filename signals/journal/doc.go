// Package journal is the embedded signal log: records in segment files on the local
// disk, durable before they are acknowledged, for one process. It is a signals.Log with
// one partition, 0, whose offsets count records from 0.
//
// # What it holds
//
//   - Append returns without an error only after the records were synced. They are found
//     again after a kill and after a loss of power, in order.
//   - Open finds every acknowledged record, or refuses with a *DamageError that names the
//     file, the byte and the record. What was written but never acknowledged may be
//     found or not.
//   - A sync that failed is never tried again on its segment. See "Failures".
//
// It promises integrity, not evidence: the chain of SHA-256 hashes shows damage and
// mixed-up files, but whoever can write the folder can also write a consistent chain.
// Yesterday's folder put back whole is consistent too; it needs Adopt, or positions that
// were given out since then would be compared with other records.
//
// # The folder
//
//	LOCK              held by the one process that uses the folder (flock)
//	identity          the identity of the log, and of those that it continues
//	acknowledged      the watermark: two slots, written in turn, in place
//	<n>-<first>.segment   the records from offset <first> on, the n-th segment
//	*.void            segments that Adopt has set aside; nothing reads them
//	*.tmp             unfinished; removed at the next start
//
// Numbers are little-endian. CRC is CRC-32C (Castagnoli).
//
// A segment begins with a header of 128 bytes:
//
//	  0  magic "VGLJRNL\n"
//	  8  uint32 version, 1
//	 16  identity of the log that wrote it
//	 32  uint64 number of the segment, from 1, without gaps
//	 40  int64  offset of the first record, which is the end of the predecessor
//	 48  int64  time of creation, ns since 1970
//	 56  salt, 8 random bytes
//	 64  running hash of everything before the first record: the end of the predecessor
//	 96  zero
//	124  uint32 CRC of the 124 bytes before
//
// It is written under another name, synced and renamed before any record follows. Then
// come frames:
//
//	  0  uint32 CRC of the salt and of the rest of the frame
//	  4  uint32 size of the body
//	  8  body: a record or a mark
//
//	record   byte 1, int64 append time (ns since 1970), payload
//	mark     byte 2, salt, int64 offset of the next record, running hash up to there
//
// The running hash after a record is SHA-256 of the running hash before it and the body
// of its frame. It starts, for a log that continues none, as SHA-256 of
// "vigil journal" and the identity.
//
// A group is a mark and the records that are synced together. As a group is begun only
// when the one before is synced, a mark says that every record before it is durable.
// The salt keeps a payload from passing for a mark.
//
// A header rules over the segment before it: what stands there past the named end is
// void, and was never acknowledged.
//
// The watermark says the same as a mark where no later group does: the writer puts it
// into the file "acknowledged" when no group has followed for 10 ms, and at Close. Each of
// its slots (at 0 and 512) is
//
//	 0  magic "VGLACKD\n"
//	 8  uint64 counter; the valid slot with the higher one counts
//	16  identity of the log
//	32  int64 offset below which every record was acknowledged
//	40  uint32 CRC of the 40 bytes before
//
// # Opening
//
// The folder is synced first, so that every file that is found stays: a process may have
// been killed between a rename and that sync. Then every retained byte is read and
// checked. What does not check below the watermark (the
// highest of the marks, of the headers and of the file "acknowledged") is damage, and
// Open refuses; marks are also looked for behind the damage. Above it, it is a torn tail.
// A tail, torn or whole, may be in the page cache only, or on pages whose sync once
// failed. So it is not trusted: a new segment begins at the watermark, which makes the
// tail void where it stands, and its whole records are in that segment from its first
// instant on, written and synced again. On a full disk this can fail; then Open does,
// for what was past the watermark may have been acknowledged in the last 10 ms. Without
// such a tail a full disk does not keep the journal from opening.
//
// # Failures
//
// A write that failed is taken back: truncate, sync. When that works nothing is left of
// the group and its appends fail with signals.ErrUnavailable. When it does not, or when
// the sync of a group failed, the bytes may be on the disk: the appends of that group
// fail with signals.ErrUnknownOutcome, and the segment is final. The next group goes to
// a new segment, which begins at the last durable record and so makes void what stood
// behind it. Until a new segment can be made, or a write works again, Health says what is
// wrong, appends are refused at once with signals.ErrUnavailable, and the journal tries
// again by itself after 100 ms, then after twice that, up to 5 s. Reading goes on.
package journal
