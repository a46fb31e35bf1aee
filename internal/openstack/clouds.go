package openstack

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"go.yaml.in/yaml/v3"

	"github.com/stackforge/magnum/structs"
)

// maxCloudsFile is the largest clouds.yaml in bytes.
const maxCloudsFile = 1 << 20

// fromCloud returns the settings of a cloud. OS_REGION_NAME and OS_INTERFACE override the
// file's, no other variable does.
func fromCloud(name string, get Getenv) (*Settings, error) {
	paths := cloudsFiles(get)
	for _, path := range paths {
		content, err := readFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, structs.Errorf(structs.CodeInvalid, "%v", err)
		}
		secure, err := readFile(filepath.Join(filepath.Dir(path), "secure.yaml"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, structs.Errorf(structs.CodeInvalid, "%v", err)
		}
		return parseCloud(name, path, content, secure, get)
	}
	return nil, missing(fmt.Sprintf("there is no clouds.yaml with a cloud %q", name),
		"it is looked for at "+strings.Join(paths, ", ")+"; OS_CLIENT_CONFIG_FILE names another file")
}

// cloudsFiles returns where clouds.yaml may be.
func cloudsFiles(get Getenv) []string {
	if path := get("OS_CLIENT_CONFIG_FILE"); path != "" {
		return []string{path}
	}
	paths := []string{"clouds.yaml"}
	if dir := get("XDG_CONFIG_HOME"); dir != "" {
		paths = append(paths, filepath.Join(dir, "openstack", "clouds.yaml"))
	} else if home := get("HOME"); home != "" {
		paths = append(paths, filepath.Join(home, ".config", "openstack", "clouds.yaml"))
	}
	return append(paths, "/etc/openstack/clouds.yaml")
}

func readFile(path string) ([]byte, error) {
	at, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if at.Size() > maxCloudsFile {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxCloudsFile)
	}
	return os.ReadFile(path)
}

// parseCloud returns the settings of a cloud in the content of clouds.yaml. secure is that of
// secure.yaml, which may have the secrets; nil means none.
func parseCloud(name, path string, content, secure []byte, get Getenv) (*Settings, error) {
	wrong := func(format string, args ...any) error {
		return structs.Errorf(structs.CodeInvalid, "%s: "+format, append([]any{path}, args...)...)
	}
	var all, secret clouds.Clouds
	if err := yaml.Unmarshal(content, &all); err != nil {
		return nil, wrong("%v", err)
	}
	if err := yaml.Unmarshal(secure, &secret); err != nil {
		return nil, wrong("secure.yaml beside it: %v", err)
	}
	cloud, ok := all.Clouds[name]
	if !ok {
		return nil, wrong("there is no cloud %q; the file has %s", name,
			orNone(strings.Join(slices.Sorted(maps.Keys(all.Clouds)), ", ")))
	}
	if cloud.AuthInfo == nil && secret.Clouds[name].AuthInfo == nil {
		return nil, wrong("cloud %q has no auth", name)
	}
	face := get.first("OS_INTERFACE", "OS_ENDPOINT_TYPE")
	if face == "" {
		face = orDefault(cloud.EndpointType, cloud.Interface)
	}
	options := []clouds.ParseOption{clouds.WithCloudName(name), clouds.WithCloudsYAML(bytes.NewReader(content))}
	if secure != nil {
		options = append(options, clouds.WithSecureYAML(bytes.NewReader(secure)))
	}
	auth, endpoint, conf, err := clouds.Parse(options...)
	if err != nil {
		return nil, wrong("cloud %q: %v", name, err)
	}
	s := &Settings{
		auth: auth, region: orDefault(get("OS_REGION_NAME"), endpoint.Region), tls: conf,
		from:  fmt.Sprintf("cloud %s of %s", name, path),
		named: func(setting string) string { return fmt.Sprintf("%s of cloud %s in %s", setting, name, path) },
	}
	if s.face, err = interfaceOf(face, "the interface"); err != nil {
		return nil, err
	}
	return s, s.settle(orDefault(string(cloud.AuthType), string(secret.Clouds[name].AuthType)))
}
