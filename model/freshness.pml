/*
 * How old is what a replica knows? One partition on three brokers, whose leader changes
 * while deposed leaders go on serving, and one replica of Vigil that follows it.
 *
 * Time. One revocation is watched, any one that is acknowledged, and time is either BEFORE
 * or AFTER its acknowledgement. A replica says as of when its view is complete (FreshAt). A
 * decision is not stale where that is no older than a bound. So C6 is: where FreshAt is AFTER,
 * the view has the watched record, whatever the bound. Between any two steps anything may
 * pass: a suspended process, machine or broker is one that makes no step for a while.
 *
 * Each #ifdef leaves a guard out. See README.md.
 */
#define BROKERS 3
#ifndef MIN_ISR
#define MIN_ISR 2			/* min.insync.replicas */
#endif
#ifndef RECORDS
#define RECORDS 2			/* offsets 0..RECORDS-1 */
#endif
#ifndef EPOCHS
#define EPOCHS 3			/* leader epochs 0..EPOCHS-1 */
#endif
#ifdef NO_QUORUM
#define QUORUM 1
#else
#define QUORUM (BROKERS - MIN_ISR + 1)	/* any such set meets any MIN_ISR brokers */
#endif

#define NO	0			/* not at all */
#define BEFORE	1
#define AFTER	2
#define NOW	(acked -> AFTER : BEFORE)
#define NONE	255

/* ---- Kafka ---- */

typedef Broker {
	byte knows;			/* the newest leader epoch it has learnt: acts on it, tells it */
	byte log[RECORDS];		/* 1 + the epoch in which each record was appended */
	byte end;			/* log end offset */
	byte hw				/* high watermark, as it knows it */
};
Broker b[BROKERS];

byte epoch;				/* the controller's */
byte leader[EPOCHS];
byte isr[EPOCHS];			/* in-sync replicas, as bits; of a past epoch, as they were last */
byte start[EPOCHS];			/* where the log of the leader ended when it began to lead */
byte acked;				/* 1 + the offset of the watched record, once acknowledged */

/* ---- what the replica knows ---- */

byte begun = NO;			/* when it began to follow */
byte at;				/* the epoch that it follows; its leader is leader[at] */
byte next;				/* everything below is applied */
byte owed = NONE;			/* an end that the leader has named and next has not come to; NONE: none asked for */
bool owed_after;			/* it was asked for AFTER */
byte asked, answer;			/* when the fetch under way was sent; the high watermark it brings */
bool counted;				/* only where COUNT_BEFORE_APPLY */
bool reached;				/* everything is applied below an end that was asked for AFTER */
byte confirmed;				/* the brokers, as bits, that were asked AFTER and then said: epoch `at` */
bool fresh;				/* FreshAt is AFTER; it never goes back */
bool ready;				/* caught up: FreshAt is not before it began; who began BEFORE may be from then on */

/* next never goes back: where the watched record is applied, nothing can break any more. */
#ifdef REACH
#define settled	false
#else
#define settled	(acked && next >= acked)
#endif

#define LEADS(i)	(leader[b[i].knows] == i)	/* it believes so */
#define IN(set, i)	((set >> (i)) & 1)
#define SIZE(set)	(IN(set, 0) + IN(set, 1) + IN(set, 2))

/* f has the record of l below an offset, and so all before it. */
#define HAS(f, l, below)	(below == 0 || (b[f].end >= below && b[f].log[below-1] == b[l].log[below-1]))

/* Every in-sync replica follows the leader l and has the record at its high watermark. */
#define FOLLOWED(f, l)	(!IN(isr[b[l].knows], f) || (b[f].knows == b[l].knows && HAS(f, l, b[l].hw + 1)))
#define COMMITTED(l)	(b[l].hw < b[l].end && FOLLOWED(0, l) && FOLLOWED(1, l) && FOLLOWED(2, l))

/* f, which follows l in one epoch, fetches once: it cuts off what l has not, or else takes
   the next record, and learns the high watermark, which may have moved before it fetches again. */
inline fetch(f, l) {
	o = 0;
	do
	:: o < b[f].end && o < b[l].end && b[f].log[o] == b[l].log[o] -> o++
	:: else -> break
	od;
	if
	:: o < b[f].end ->
		b[f].end = o;
		do
		:: o < RECORDS -> b[f].log[o] = 0; o++
		:: else -> break
		od
	:: o == b[f].end && o < b[l].end -> b[f].log[o] = b[l].log[o]; b[f].end++
	:: else
	fi;
	b[f].hw = (b[l].hw < b[f].end -> b[l].hw : b[f].end);
	o = 0
}

#define ME	_pid
#define MINE	leader[b[ME].knows]	/* the leader that this broker follows */
#define FIRST	leader[epoch]		/* the leader that the controller means */

active [BROKERS] proctype broker() provided (!settled) {
	byte o;

	isr[0] = 7;
	do
	:: d_step { epoch < EPOCHS-1 &&				/* the controller elects it */
#ifndef UNCLEAN
		IN(isr[epoch], ME) &&
#endif
		true -> epoch++; leader[epoch] = ME; isr[epoch] = isr[epoch-1] | (1 << ME) }
	:: d_step { b[ME].knows < epoch ->			/* it learns of the next epoch */
		if
		:: LEADS(ME) -> isr[b[ME].knows] = 0		/* nobody reads it any more */
		:: else
		fi;
		b[ME].knows++;
		if
		:: LEADS(ME) -> start[b[ME].knows] = b[ME].end
		:: else
		fi }
	:: d_step { LEADS(ME) && b[ME].end < RECORDS ->		/* it takes a record, deposed or not */
		b[ME].log[b[ME].end] = 1 + b[ME].knows; b[ME].end++ }
	:: d_step { LEADS(ME) && COMMITTED(ME) -> b[ME].hw++ }
	:: d_step { MINE != ME && b[MINE].knows == b[ME].knows -> fetch(ME, MINE) }
	/* The leader drops it from the ISR or takes it in. The controller hears no deposed leader. */
	:: d_step { FIRST != ME && b[FIRST].knows == epoch && IN(isr[epoch], ME) -> isr[epoch] = isr[epoch] - (1 << ME) }
	:: d_step { FIRST != ME && b[FIRST].knows == epoch && b[ME].knows == epoch && !IN(isr[epoch], ME) &&
		HAS(ME, FIRST, b[FIRST].hw) && HAS(ME, FIRST, start[epoch]) -> isr[epoch] = isr[epoch] | (1 << ME) }
	/* It acknowledges, now or long after the high watermark has passed, the record that is watched. */
	:: atomic { !acked && LEADS(ME) && b[ME].hw > 0 && SIZE(isr[b[ME].knows]) >= MIN_ISR ->
		if
		:: acked = b[ME].hw
		:: b[ME].hw > 1 -> acked = b[ME].hw - 1
		:: b[ME].hw > 2 -> acked = b[ME].hw - 2
		fi }
	od
}

/* ---- a replica of Vigil ---- */

/* What is promised, false for an instant where it is broken. */
bool C6_bounded_staleness = true, C6_no_decision_before_caught_up = true, unseen = true;

#define LEADER		b[leader[at]]

/* freshness.go, follows: another leader, of which nothing is known yet. */
inline move(e) {
	at = e; owed = NONE; owed_after = false; asked = NO; answer = 0; counted = false; confirmed = 0;
#ifndef KEEP_REACHED
	reached = false
#endif
}

/* freshness.go, publishLocked: whenever a part of it has changed. */
inline recompute() {
	if
	:: owed != NONE && next >= owed -> reached = reached || owed_after; owed = 0; owed_after = false
	:: else
	fi;
	fresh = fresh || (reached && SIZE(confirmed) >= QUORUM);
#ifdef NO_CATCH_UP
	ready = true
#else
#ifdef CATCH_UP_UNCONFIRMED
	ready = ready || begun == BEFORE || reached
#else
	ready = ready || begun == BEFORE || fresh
#endif
#endif
}

#ifdef FETCH_TIMED_WHEN_ANSWERED
#define COUNT	reached = reached || (NOW == AFTER)
#else
#define COUNT	reached = reached || (asked == AFTER)
#endif

/* freshness.go, answered: what a broker that was asked then says. */
inline heard() {
	if
	:: says > at -> move(says)
	:: else
	fi;
	if
	:: says == at ->
#ifdef METADATA_TIMED_WHEN_ANSWERED
		confirmed = confirmed | ((NOW == AFTER) << i)
#else
		confirmed = confirmed | ((asked_at == AFTER) << i)
#endif
	:: else
	fi;
	recompute(); i = 0; asked_at = NO; says = 0
}

/* poll.go: one broker is asked for metadata. PROMPT: it answers at once, for more states elsewhere. */
active proctype poll() provided (!settled) {
	byte i, asked_at, says;

	begun != NO;
	do
	:: atomic {
		if
		:: i = 0
		:: i = 1
		:: i = 2
		fi;
		asked_at = NOW; says = b[i].knows;
#ifdef PROMPT
		heard() }
#else
		}
	   d_step { heard() }
#endif
	od
}

/* follower.go: one session after another. */
active proctype follow() provided (!settled) {
	begun = NOW;
	do
	:: d_step { owed == NONE && LEADER.knows == at &&	/* ListOffsets, with the epoch */
#ifndef NO_END_OF_EPOCH
		LEADER.hw >= start[at] &&			/* else OFFSET_NOT_AVAILABLE (KIP-207) */
#endif
		true -> owed = LEADER.hw; owed_after = (NOW == AFTER); recompute() }
	/* A fetch is sent, with the epoch. The answer comes any time later. */
	:: d_step { owed != NONE && asked == NO && LEADER.knows == at ->
		asked = NOW; answer = (LEADER.hw > next -> LEADER.hw : next) }
	:: d_step { asked != NO && next + 1 < answer ->		/* it brings a part only: its end is owed */
		next++;
		if
		:: owed == 0 -> owed = answer; owed_after = (asked == AFTER)
		:: else
		fi;
		asked = NO; answer = 0; recompute() }
#ifdef COUNT_BEFORE_APPLY
	:: d_step { asked != NO && !counted && answer >= owed -> counted = true; COUNT; recompute() }
	:: d_step { counted -> next = answer; counted = false; asked = NO; answer = 0; recompute() }
#else
	:: d_step { asked != NO -> next = answer;		/* applied */
		if
		:: next >= owed -> COUNT
		:: else
		fi;
		asked = NO; answer = 0; recompute() }
#endif
	:: d_step { asked != NO -> owed = NONE; owed_after = false; asked = NO; answer = 0; counted = false }	/* the connection broke */

	/* A decision. */
#ifdef NO_CATCH_UP
	:: d_step { true
#else
	:: d_step { ready
#endif
		-> C6_bounded_staleness = !fresh || next >= acked;
		C6_no_decision_before_caught_up = begun == BEFORE || next >= acked;
		assert(C6_bounded_staleness);
		assert(C6_no_decision_before_caught_up) }
#ifdef REACH
	:: d_step { fresh && acked == RECORDS && next == acked && at == EPOCHS-1 && LEADER.log[0] == 1 -> unseen = false; assert(unseen) }
#endif
	od
}
