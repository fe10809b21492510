// Package snapshot puts posture and the position that it stands at into one file, so that
// a start reads the newest good file and only the rest of the log.
//
// The positions are captured before posture is walked: what is applied meanwhile may or
// may not be in the file, and is read from the log again, which changes nothing, for
// applying is a join. The marks, by which a log knows its own records again, are captured
// after the positions, and so are never of an earlier record.
//
// # The file
//
// Numbers are little-endian.
//
//	header
//	   0  magic "VGLSNAP\n"
//	   8  uint32 version, 1 or 2; what follows is of that version
//	  12  uint32 size of the header
//	  16  identity of the log
//	  32  int64  now, ns since 1970: facts that had expired then are not in it
//	  40  digest of the posture, 32 bytes, or zero
//	  72  uint64 entities, about
//	  80  uint32 number of positions, and for each
//	        int32 partition, int64 offset; sorted by partition
//	      in version 2: uint32 size of the marks, 1 to 1 MiB, and the marks
//	      uint32 CRC-32C of the header up to here
//	parts, each
//	   0  byte 1 (zstd, one frame with its checksum) or 2 (as it is)
//	   1  uint32 bytes in the file
//	   5  uint32 bytes when decoded, at most 1 MiB and at most 256 times those in the file
//	   9  the bytes
//	trailer
//	   0  byte 0
//	   1  uint64 bytes of all parts when decoded
//	   9  SHA-256 of everything before
//
// Version 2 is written only where there are marks, so that a program that knows version 1
// alone can go back to what it could have written.
//
// The parts together are what posture.Store.WriteSnapshot wrote. As every part says how
// large it gets and may not get larger, a reader needs a few MiB whatever the file says,
// and a file of n bytes never makes it decode more than 256 n.
//
// The checksums are against accidents. Whoever can write the file can write what it says.
package snapshot
