package backendtest

import "testing"

func TestFake(t *testing.T) { Suite(t, NewFake()) }
