package rest_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// FuzzQuotas sets quotas with bodies of both dialects. Each one is set and shown as it was
// answered, or refused; no limit is negative or absurd.
func FuzzQuotas(f *testing.F) {
	for _, body := range []string{
		`{"containers":1,"cpu":"1.5"}`, `{"containers":"5","memory":"1024","cpu":"2","disk":"-1"}`, `{"memory":-2}`, `{"memory":"nan"}`,
		`{"cpu":"NaN"}`, `{"cpu":"inf"}`, `{"cpu":-1e-320}`, `{"cpu":1e308}`, `{"memory":9223372036854775807}`, `{"memory":8796093022207}`,
		`{"containers":1.5}`, `{"containers":true}`, `{"containers":null}`, `{"containers":"0x10"}`, `{"containers":"1_0"}`,
		`{"containers":1,"containers":-1}`, `{"spec_bytes":0,"bays":-1}`, `{"memory":" 1"}`, `{"a":{}}`, "", "[]", "null", `{"cpu":`,
	} {
		f.Add(body)
	}
	s := servertest.New(f)
	f.Fuzz(func(t *testing.T, body string) {
		const path = "/v1/quotas/" + structs.DefaultProject
		if orderly(t, s, "PUT", path, body).Code == http.StatusOK {
			var shown structs.QuotaBody
			if err := json.Unmarshal(orderly(t, s, "GET", path, "").Body.Bytes(), &shown); err != nil {
				t.Fatal(err)
			}
			for i, use := range shown.Uses() {
				if use.Limit < structs.Unlimited || use.Limit > structs.MaxQuota {
					t.Fatalf("%q sets %s to %v", body, structs.Resource(i), use.Limit)
				}
			}
		}
		r := httptest.NewRequest("PUT", path, strings.NewReader(body))
		r.Header.Set("OpenStack-API-Version", "container 1.40")
		w := httptest.NewRecorder()
		before := s.Store.Hash()
		s.REST.ServeHTTP(w, r)
		var shown map[string]float64
		switch err := json.Unmarshal(w.Body.Bytes(), &shown); {
		case w.Code == http.StatusBadRequest && s.Store.Hash() == before:
		case w.Code != http.StatusOK || err != nil:
			t.Fatalf("%q: status %d: %s (%v)", body, w.Code, w.Body, err)
		default:
			for name, limit := range shown {
				if limit < structs.Unlimited || limit > structs.MaxQuota {
					t.Fatalf("%q sets %s to %v", body, name, limit)
				}
			}
		}
	})
}
