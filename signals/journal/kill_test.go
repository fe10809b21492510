package journal

func isChild() bool { return false }
func child()        {}
