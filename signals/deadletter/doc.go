// Package deadletter keeps the records that could not be applied in a file, for whoever has
// to find out why: the log may be trimmed, and its other readers are programs.
//
// The folder has two files, dead-letters.jsonl and, from before it was 16 MiB,
// dead-letters.old.jsonl. Each line is a JSON object with the version of its form:
//
//	{"v":1,"partition":"risk/3","number":20483,"offset":17,"appended":"…","source":"topic:risk",
//	 "id":"…","reason":"…","size":9,"record":"<base64>","truncated":true}
//	{"v":1,"at":"…","skipped":1204}
//
// The second kind says how many dead letters before it were not written, for they came
// faster than 200 or 512 KiB a second (2,000 or 4 MiB at once), or the disk failed. A flood
// of them neither delays the applier nor fills the disk.
//
// It is evidence and no promise: lines are synced after a second, so the last may be lost with
// the power. The log still has those records, and reading it again after a start
// writes them again; Read tells each record once.
package deadletter
