package command

import (
	"context"
	"fmt"

	"github.com/stackforge/magnum/internal/gossip"
)

func keygenCommand() *command {
	return &command{
		name: "keygen", group: groupDaemons,
		synopsis: "Print a new gossip key",
		about:    "Give all servers and agents of a cluster the same key, with -encrypt or MAGNUM_ENCRYPT.",
		examples: []string{"magnum keygen >/etc/magnum/gossip.key"},
		setup: func(e *env, _ *flagSet) runFunc {
			return func(_ context.Context, args []string) error {
				if err := exactly(args); err != nil {
					return err
				}
				_, err := fmt.Fprintln(e.stdout, gossip.NewKey())
				return err
			}
		},
	}
}
