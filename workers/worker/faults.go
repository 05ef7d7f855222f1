package worker

import (
	"errors"
	"fmt"
)

// Faults collects all faults of a config, so that the caller learns of them at once.
type Faults struct {
	of  string
	all []error
}

// FaultsOf returns the Faults of a config, at first none. of names its worker.
func FaultsOf(of string) *Faults { return &Faults{of: of} }

// If adds a fault where bad is true. Its text has the value and the bound.
func (f *Faults) If(bad bool, format string, args ...any) {
	if bad {
		f.all = append(f.all, fmt.Errorf("%s: "+format, append([]any{f.of}, args...)...))
	}
}

// Err returns all faults as one error; nil where there are none.
func (f *Faults) Err() error { return errors.Join(f.all...) }
