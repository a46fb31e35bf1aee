// Package fetch fetches manifests.
package fetch

import (
	"context"

	"github.com/stackforge/magnum/structs"
)

// Manifest returns the manifest at the URL. CodeInvalid.
func Manifest(_ context.Context, url string) (string, error) {
	return "", structs.Errorf(structs.CodeInvalid, "manifest_url %q: this version fetches none", url)
}
