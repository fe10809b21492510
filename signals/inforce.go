package signals

import "vigil/posture"

// InForce reports whether all that a batch says was said by this sender before, under the same
// ids, and is in force here: pushing it would change nothing. What is in force is durable, in
// the log or in the spool. It is false where that is not sure, as of what was superseded
// since, or is in another source's line.
//
// It is for who is given the same events as other replicas, to save the log their copies.
func (in *Intake) InForce(sender Sender, body []byte) bool {
	batch, err := Decode(body)
	if err != nil || Judge(sender, batch.Signals, in.classOf) != nil {
		return false // Push says why
	}
	for i := range batch.Signals {
		if !in.has(sender.Source, &batch.Signals[i]) {
			return false
		}
	}
	return true
}

// has reports whether every fact of a signal in its source's own line is there; of a
// heartbeat, whether its source was heard as late.
func (in *Intake) has(source Source, s *Signal) bool {
	if s.Type == TypeHeartbeat { // which leaves no fact
		return in.cfg.Store.Heard(source.String()) >= heardAt(&Record{Source: source}, s.Time, in.cfg.Now())
	}
	if s.Line != "" {
		return false
	}
	changes, err := Facts(&Record{Source: source, Tenant: s.Tenant}, s, in.cfg.Now())
	if err != nil {
		return false
	}
	for i := range changes {
		for j := range changes[i].Facts {
			if !in.holds(&changes[i], &changes[i].Facts[j], s) {
				return false
			}
		}
	}
	return len(changes) > 0
}

// holds reports whether an entity has a fact that is mine, which comes of s. One whose times
// were cut when it was taken is not recognized.
func (in *Intake) holds(of *posture.Change, mine *posture.Fact, s *Signal) bool {
	for f := range in.cfg.Store.Get(of.Key).Facts() {
		same := f.Source == mine.Source && f.ID == mine.ID && f.Time == mine.Time && f.Cutoff == mine.Cutoff
		if same && sameSignal(&f, mine, s) {
			return true
		}
	}
	return false
}
