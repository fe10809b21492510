package rules

func (b *Bundle) parseTests(errs *[]Error) {}
