package command

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestFlagsAndArgumentsInAnyOrder(t *testing.T) {
	for _, tt := range []struct {
		line    string
		literal int
		rest    string
		name    string
		wide    bool
	}{
		{"-name x a b", 0, "a b", "x", false},
		{"a -name x b -wide", 0, "a b", "x", true},
		{"a b --name=x --wide=false", 0, "a b", "x", false},
		{"a -- -name x", 0, "a -name x", "", false},
		{"-name -- a", 0, "a", "--", false},
		{"-name x -- -wide", 0, "-wide", "x", false},
		{"a -", 0, "a -", "", false},
		{"-name x a -name y", 1, "a -name y", "x", false},
		{"-wide -- a -wide", 1, "a -wide", "", true},
		{"a -wide b -c -name y", 2, "a b -c -name y", "", true},
		{"a -- -c", 2, "a -c", "", false},
	} {
		f := newFlagSet("test")
		f.literal = tt.literal
		var name string
		var wide bool
		f.text(&name, "name n", "NAME", "")
		f.switchOn(&wide, "wide w", "")
		rest, err := f.parse(strings.Fields(tt.line))
		if err != nil || strings.Join(rest, " ") != tt.rest || name != tt.name || wide != tt.wide {
			t.Errorf("%q: rest %q, name %q, wide %v, %v; want %q %q %v", tt.line, rest, name, wide, err, tt.rest, tt.name, tt.wide)
		}
	}
}

func TestFlagErrors(t *testing.T) {
	for line, want := range map[string]string{
		"-nmae x":     "did you mean -name?",
		"-frobnicate": "there is no flag -frobnicate",
		"a -name":     "flag -name needs a value",
		"-wide=maybe": "must be true or false",
		"-count x":    `"x" is not a whole number`,
		"-count 0":    `"0" is below 1`,
	} {
		f := newFlagSet("test")
		var name string
		var wide bool
		f.text(&name, "name", "NAME", "")
		f.switchOn(&wide, "wide", "")
		f.number("count", "N", "", 1, func(int) {})
		_, err := f.parse(strings.Fields(line))
		var usage *usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want a usage error with %q", line, err, want)
		}
	}
}

func TestHelpFlag(t *testing.T) {
	for line, want := range map[string]bool{"-help": true, "-h": true, "a --help": true, "-name -h": false, "-- -h": false} {
		f := newFlagSet("test")
		var name string
		f.text(&name, "name", "NAME", "")
		if _, err := f.parse(strings.Fields(line)); errors.Is(err, errHelp) != want {
			t.Errorf("%q: %v, want help %v", line, err, want)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"bay-list", "bay-show", "host-list"}
	for in, want := range map[string]string{"bay-lst": "bay-list", "bayshow": "bay-show", "x": "", "xyzzy-plugh": ""} {
		if got := nearest(in, words); got != want {
			t.Errorf("nearest(%q) = %q, want %q", in, got, want)
		}
	}
	if d := editDistance("kitten", "sitting"); d != 3 {
		t.Errorf("the distance of kitten and sitting is %d, want 3", d)
	}
}

func FuzzParseFlags(f *testing.F) {
	f.Add("-name x a --wide -- -y")
	f.Add("a -name=")
	f.Add("-")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, " ")
		set := newFlagSet("test")
		var name string
		var wide bool
		set.text(&name, "name n", "NAME", "")
		set.switchOn(&wide, "wide", "")
		rest, err := set.parse(args)
		if err == nil && len(rest) > len(args) {
			t.Fatalf("%q gives more arguments than it has: %q", args, rest)
		}
		// After "--" everything is an argument.
		again, err := newFlagSet("test").parse(append([]string{"--"}, args...))
		if err != nil || !reflect.DeepEqual(append([]string{}, again...), args) {
			t.Fatalf("after --, %q gives %q, %v", args, again, err)
		}
	})
}
