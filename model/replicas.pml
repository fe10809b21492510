/*
 * What a replica may allow while it and the log break. One topic, whose leader changes,
 * which may lose its end (an unclean election), lose its beginning (retention), or be deleted and
 * made anew; and replicas of Vigil, which push, apply, take snapshots, are killed and
 * started again.
 *
 * Replicas share nothing but the log, so that one of them, beside a world that appends
 * and acknowledges what it likes, is any of any number. REPLICAS > 1 runs several.
 *
 * One revocation is watched, any one: records do not meet in posture. Time is as in
 * freshness.pml, BEFORE or AFTER it is acknowledged, and metadata and high watermarks, with which
 * that model deals, are true here at the instant at which they are read.
 *
 * Each #ifdef leaves a guard out. See README.md.
 */
#ifndef REPLICAS
#define REPLICAS 1
#endif
#ifndef OFFSETS
#define OFFSETS 4
#endif
#ifndef EPOCHS
#define EPOCHS 3
#endif
#define TOPICS 2
#define NONE 255

/* How far a delivery has come. */
#define IDLE	0
#define MARKED	1
#define APPLIED	2
#define DELIVERED 3

/* ---- the log, as its name leads to it ---- */

byte topic;				/* the topic id that it has now */
byte epoch;				/* leader epoch; a new topic begins at 0 again */
byte first, end;			/* log start offset, log end offset */
byte log[OFFSETS];			/* what each record is, as its epoch and hash tell; 0 is none */
byte kept = OFFSETS;			/* the lowest offset at which the log was ever cut */

byte x = NONE, xtopic;			/* the offset of the watched revocation, and its topic */
bool lost;				/* an unclean election lost it, which the contract excludes */
bool again;				/* it has an offset that another record had that was lost */

#define CONTENT	(1 + topic * EPOCHS + epoch)
#define ACKED	(x != NONE)		/* appended with acks=all: who appended it may say so from now on */

active proctype world() provided (!lost) {
	byte n;

	do
	:: d_step { end < OFFSETS -> log[end] = CONTENT; end++ }
	:: d_step { end < OFFSETS && !ACKED -> x = end; xtopic = topic; again = (end >= kept); log[end] = CONTENT; end++ }
	:: atomic { epoch < EPOCHS - 1 -> n = end;		/* another leader, which may have less */
		do
		:: n > first -> n--
		:: break
		od;
		d_step {
			lost = lost || (ACKED && xtopic == topic && x >= n);
			kept = (n < end && n < kept -> n : kept);
			epoch++;
			do
			:: end > n -> end--; log[end] = 0
			:: else -> break
			od;
			n = 0
		} }
	:: d_step { first < end && first < kept -> log[first] = 0; first++ }	/* retention */
	:: d_step { topic < TOPICS - 1 -> topic++; epoch = 0; kept = OFFSETS; first = 0;	/* deleted and made anew */
		do
		:: end > 0 -> end--; log[end] = 0
		:: else -> break
		od; n = 0 }
	od
}

/* ---- the guards ---- */

#ifdef NO_TOPIC_ID			/* a topic is known by its name */
#define SAME(i)	true
#else
#define SAME(i)	((i) == topic)
#endif

#ifdef FETCH_BY_NAME			/* fetches name the topic; its id is seen in metadata alone */
#define FETCHES	true
#else
#define FETCHES	SAME(id)
#endif

#ifdef NO_MARK				/* records are known by their offsets */
#define MARK_FITS	true
#else
#define MARK_FITS	(mark == 0 || mark_at < first || (mark_at < end && log[mark_at] == mark))
#endif

#ifdef NO_WAIT_AT_LEAST			/* a demanded position is not waited for */
#define HAS_COME	true
#else
#ifdef TOKEN_WITHOUT_LOG		/* a position says not of which log it is */
#define HAS_COME	(next > x)
#else
#define HAS_COME	(id == xtopic && next > x)
#endif
#endif

/* ---- replicas ---- */

/* What is promised, false for an instant where it is broken. */
bool C1_no_allow_after_own_acknowledgement = true, C1_no_allow_where_demanded = true,
	C5_never_un_revoked = true, unseen = true;

/* follow.go, set: unless a later record is remembered. */
inline remember(offset, what) {
	if
	:: mark == 0 || mark_at <= offset -> mark_at = offset; mark = what
	:: else
	fi
}

active [REPLICAS] proctype replica() provided (!lost) {
	/* in memory */
	byte id;			/* the topic that it follows */
	byte next;			/* the published position */
	bool seen;			/* the watched revocation is in posture */
	byte mark_at, mark;		/* the last record handed to deliver; 0 is none */
	byte leads;			/* the epoch that it fetches with */
	byte goal;			/* the end of the log when it began, or where it was last checked */
	bool checked;			/* position and mark fit the log: since the start, a pause, an epoch */
	byte hand;			/* how far a delivery has come */
	bool it;			/* what is delivered is the watched revocation */
	byte got;			/* only where MARK_AFTER_DELIVER */
	bool reached, confirmed;	/* asked AFTER, the log said: that is all; its topic and epoch are these */
	bool fresh;			/* FreshAt is AFTER. All three are of no interest where it is seen */
	bool ready;			/* caught up */
	/* what outlives it: the newest snapshot, and whether it acknowledged */
	bool has, s_seen;
	byte s_id, s_next, s_mark_at, s_mark;
	bool mine;
	/* the snapshot that is being written */
	byte stage, w_next, w_mark_at, w_mark;
	bool w_seen;

	do
	:: d_step { !has || SAME(s_id) ->	/* else the start is refused: the log's identity is the topic id */
		id = (has -> s_id : topic); next = s_next; seen = s_seen; mark_at = s_mark_at; mark = s_mark;
		leads = epoch; goal = end; checked = false; hand = IDLE; it = false; got = 0;
		reached = false; confirmed = false; fresh = false; ready = false;
		stage = 0; w_next = 0; w_mark_at = 0; w_mark = 0; w_seen = false;
#ifdef NO_CATCH_UP
		ready = true
#endif
	}
	do
	/* follower.go: before anything is delivered. What does not fit is an error, and tried again. */
	:: d_step { !checked && hand == IDLE && leads == epoch && SAME(id) && next >= first && next <= end && MARK_FITS ->
		checked = true; goal = (ready -> 0 : end) }
#ifdef NO_HOLE_CHECK
	:: d_step { !checked && hand == IDLE && leads == epoch && next < first -> next = first }
#endif
	:: d_step { checked && hand == IDLE -> checked = false }	/* an error, a pause */
	:: d_step { leads != epoch && hand == IDLE ->			/* metadata names another epoch */
		leads = epoch; reached = false; confirmed = false;
#ifndef MARK_CHECKED_AT_START_ONLY
		checked = false
#endif
	}

	/* A record is fetched. The broker refuses another topic's id and another epoch. */
	:: d_step { checked && hand == IDLE && leads == epoch && FETCHES && first <= next && next < end ->
		it = (ACKED && topic == xtopic && next == x); hand = MARKED;
#ifndef MARK_AFTER_DELIVER
		remember(next, log[next])
#else
		got = log[next]
#endif
	}
	/* applier.go: applied, then published, then acknowledged. */
#ifdef PUBLISH_BEFORE_APPLY
	:: d_step { hand == MARKED -> next++; hand = APPLIED }
	:: d_step { hand == APPLIED -> seen = seen || it; mine = mine || it; it = false; hand = IDLE }
#else
#ifdef ACK_BEFORE_APPLY
	:: d_step { hand == MARKED && it -> mine = true }
#endif
	:: d_step { hand == MARKED -> hand = APPLIED;
		if
		:: it -> seen = true; reached = false; confirmed = false; fresh = false
		:: else
		fi }
	:: d_step { hand == APPLIED -> next++; mine = mine || it; it = false;
#ifdef MARK_AFTER_DELIVER
		hand = DELIVERED }
	:: d_step { hand == DELIVERED -> remember(next - 1, got); got = 0;
#endif
		hand = IDLE }
#endif

	/* freshness.go: what was asked may be answered, and what was fetched applied, any time later;
	   FreshAt is the older of both. */
	:: d_step { checked && hand == IDLE && leads == epoch && FETCHES && next >= end && ACKED && !seen ->
		reached = true; fresh = fresh || confirmed }
	:: d_step { SAME(id) && leads == epoch && ACKED && !seen ->
		confirmed = true; fresh = fresh || reached }
	:: d_step { !ready && checked && next >= goal -> ready = true; goal = 0 }

	/* A snapshot: positions, then marks, then posture is walked. What is walked late has only more. */
	:: d_step { stage == 0 -> stage = 1;
#ifdef MARKS_BEFORE_POSITIONS
		w_mark_at = mark_at; w_mark = mark }
#else
#ifdef WALK_BEFORE_POSITIONS
		w_seen = seen }
#else
		w_next = next }
#endif
#endif
	:: d_step { stage == 1 -> stage = 0; has = true; s_id = id; s_next = w_next; s_seen = seen; s_mark_at = mark_at; s_mark = mark;
#ifdef MARKS_BEFORE_POSITIONS
		s_next = next; s_mark_at = w_mark_at; s_mark = w_mark;
#endif
#ifdef WALK_BEFORE_POSITIONS
		s_next = next; s_seen = w_seen;
#endif
		w_next = 0; w_mark_at = 0; w_mark = 0; w_seen = false }

	/* A decision. What an unclean election has lost, and what was in a topic that was deleted before it began, it need not know. */
	:: d_step { ready && ACKED ->
		C1_no_allow_after_own_acknowledgement = seen || !mine || xtopic < id;
		C1_no_allow_where_demanded = seen || !HAS_COME || again;
		C5_never_un_revoked = seen || !fresh || xtopic < id;
		assert(C1_no_allow_after_own_acknowledgement);
		assert(C1_no_allow_where_demanded);
		assert(C5_never_un_revoked) }
#ifdef REACH
	:: d_step { ready && has && s_seen && xtopic == 1 && epoch == EPOCHS-1 && first > 0 && s_next == next && next == end && end > first -> unseen = false; assert(unseen) }
#endif

	:: break			/* kill -9, and another process begins any time later */
	od
	od
}
