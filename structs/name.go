package structs

import "fmt"

// GenerateName returns a readable name for an object without one. It depends on the
// UUID alone, so it needs no randomness of its own.
func GenerateName(uuid string) string {
	var n uint
	fmt.Sscanf(uuid[:8], "%x", &n)
	return fmt.Sprintf("%s-%s-%s", adjectives[n%uint(len(adjectives))], nouns[n/64%uint(len(nouns))], uuid[9:13])
}

// GenerateLabel returns a DNS label: the prefix with a part of the ID behind it, or of an ID
// derived from it while that name is taken.
func GenerateLabel(prefix, id string, taken func(name string) bool) string {
	const suffix = 5
	for ; ; id = DeriveID(id) {
		if name := prefix[:min(len(prefix), MaxPodName-suffix)] + id[:suffix]; !taken(name) {
			return name
		}
	}
}

var adjectives = []string{
	"amber", "brave", "brisk", "calm", "clear", "crisp", "dapper", "early",
	"eager", "fair", "fleet", "fresh", "gentle", "glad", "golden", "grand",
	"green", "happy", "hardy", "honest", "humble", "jolly", "keen", "kind",
	"lively", "loyal", "lucid", "lunar", "mellow", "merry", "mild", "modest",
	"neat", "nimble", "noble", "patient", "plain", "polite", "proud", "quick",
	"quiet", "rapid", "ready", "rosy", "round", "royal", "serene", "sharp",
	"silent", "silver", "smooth", "solar", "solid", "spry", "steady", "sunny",
	"swift", "tidy", "tranquil", "vivid", "warm", "wise", "witty", "young",
}

var nouns = []string{
	"acorn", "alder", "anchor", "aspen", "badger", "barley", "beacon", "birch",
	"bison", "breeze", "bridge", "brook", "canyon", "cedar", "clover", "comet",
	"coral", "crane", "creek", "dune", "ember", "falcon", "fern", "finch",
	"fjord", "flint", "forest", "garnet", "glacier", "harbor", "hazel", "heron",
	"island", "jasper", "juniper", "lagoon", "lark", "laurel", "lichen", "linden",
	"lotus", "maple", "marsh", "meadow", "mesa", "moss", "oak", "orchid",
	"osprey", "otter", "pebble", "pine", "plover", "prairie", "quartz", "raven",
	"reef", "ridge", "river", "spruce", "thicket", "tundra", "willow", "wren",
}
