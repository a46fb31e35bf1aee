package mirror

import (
	"fmt"
	"reflect"
	"slices"
)

// mergeKeys are the lists of objects whose entries have names, by the field that holds the
// list: the fields that name an entry. Other lists are taken as a whole.
var mergeKeys = map[string][]string{
	"containers":                {"name"},
	"initContainers":            {"name"},
	"ephemeralContainers":       {"name"},
	"env":                       {"name"},
	"volumes":                   {"name"},
	"volumeMounts":              {"mountPath"},
	"volumeDevices":             {"devicePath"},
	"imagePullSecrets":          {"name"},
	"hostAliases":               {"ip"},
	"resourceClaims":            {"name"},
	"topologySpreadConstraints": {"topologyKey", "whenUnsatisfiable"},
	"ports":                     {"containerPort", "port", "protocol"},
	"tolerations":               {"key", "operator", "value", "effect"},
}

// merge returns what current becomes when a manifest that said original says modified: what
// it sets is set, what it no longer has is removed, and the rest stays. field is the name of
// the field that holds the values.
func merge(field string, original, modified, current any) any {
	switch now := modified.(type) {
	case map[string]any:
		before, _ := original.(map[string]any)
		live, ok := current.(map[string]any)
		if !ok {
			return now
		}
		merged := make(map[string]any, len(live))
		for key, value := range live {
			_, wanted := now[key]
			if _, had := before[key]; wanted || !had {
				merged[key] = value
			}
		}
		for key, value := range now {
			if there, ok := live[key]; ok {
				merged[key] = merge(key, before[key], value, there)
			} else {
				merged[key] = value
			}
		}
		return merged
	case []any:
		live, ok := current.([]any)
		keys := mergeKeys[field]
		before, _ := original.([]any)
		switch {
		case !ok:
			return now
		case keys == nil || !objects(now) || !objects(live):
			if reflect.DeepEqual(original, modified) {
				return current // the manifest has not changed: the cluster may have added to it
			}
			return now
		}
		return mergeList(keys, before, now, live)
	}
	return modified
}

// mergeList merges lists of entries that have names. Entries that the cluster has added
// stay behind the manifest's.
func mergeList(keys []string, original, modified, current []any) []any {
	find := func(list []any, entry any) any {
		i := slices.IndexFunc(list, func(o any) bool { return entryName(keys, o) == entryName(keys, entry) })
		if i < 0 {
			return nil
		}
		return list[i]
	}
	merged := make([]any, 0, len(current))
	for _, entry := range modified {
		if live := find(current, entry); live != nil {
			entry = merge("", find(original, entry), entry, live)
		}
		merged = append(merged, entry)
	}
	for _, entry := range current {
		if find(modified, entry) == nil && find(original, entry) == nil {
			merged = append(merged, entry)
		}
	}
	return merged
}

// entryName returns what names an entry of a list. A protocol that isn't given is TCP.
func entryName(keys []string, entry any) string {
	fields, _ := entry.(map[string]any)
	name := ""
	for _, key := range keys {
		value := fields[key]
		switch {
		case value == nil && key == "protocol":
			value = "TCP"
		case value == nil && key == "operator":
			value = "Equal"
		}
		name += fmt.Sprintf("%v\x00", value)
	}
	return name
}

// objects reports whether all entries of a list are objects.
func objects(list []any) bool {
	return !slices.ContainsFunc(list, func(entry any) bool {
		_, ok := entry.(map[string]any)
		return !ok
	})
}
