package api

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stackforge/magnum/structs"
)

func TestImageRequests(t *testing.T) {
	asked, body, expect := "", "", ""
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client aborted the request
		}
		asked, body, expect = r.Method+" "+r.URL.RequestURI(), string(raw), r.Header.Get("Expect")
		switch r.FormValue("bay") {
		case "strange":
			answer(w, 200, "", `{"images":{},"errors":[]}`)
		case "none":
			answer(w, 400, "", `{"errors":[{"code":"bay.invalid","detail":"Bay none could not be found."}]}`)
		default:
			answer(w, 200, "7", `{"images":[{"id":"i","names":["a"],"host":"h"}],"errors":[{"host":"x","code":"unavailable",`+
				`"message":"lost"}],"results":[{"host":"h","result":"success"}]}`)
		}
	})
	list, meta, err := c.Images().List(t.Context(), HostListOptions{Bay: "b", Host: "h", Name: "n", AllProjects: true, Stale: true})
	if err != nil || len(list.Images) != 1 || list.Images[0].ID != "i" || list.Images[0].Host != "h" || list.Errors[0].Message != "lost" ||
		len(meta.Items) != 1 || meta.Index != 7 ||
		asked != "GET /v1/images?all_projects=true&bay=b&host=h&name=n&stale=true" {
		t.Errorf("%+v, %+v, %v, asked %s", list, meta, err, asked)
	}
	if _, _, err := c.Images().List(t.Context(), HostListOptions{Bay: "strange"}); structs.CodeOf(err) != structs.CodeInternal {
		t.Errorf("a response of another shape: %v", err)
	}
	if _, _, err := c.Images().List(t.Context(), HostListOptions{Bay: "none"}); structs.CodeOf(err) != structs.CodeInvalid {
		t.Errorf("no such bay: %v", err)
	}
	results, _, err := c.Images().Load(t.Context(), HostTarget{Bay: "b"}, strings.NewReader("a tar"))
	if err != nil || len(results) != 1 || asked != "PUT /v1/images/load?bay=b" || body != "a tar" || expect != "100-continue" {
		t.Errorf("load: %+v, %v, asked %s %q", results, err, asked, body)
	}
	broken := errors.New("the disk is broken")
	if _, _, err := c.Images().Load(t.Context(), HostTarget{},
		io.MultiReader(strings.NewReader("a"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("load of an unreadable archive: %v", err)
	}
	if results, _, err := c.Images().Prune(t.Context(), HostTarget{Host: "h", All: true}); err != nil || len(results) != 1 ||
		asked != "PUT /v1/images/prune?all=true&host=h" {
		t.Errorf("prune: %+v, %v, asked %s", results, err, asked)
	}
}

func TestImagePullStreamsResults(t *testing.T) {
	text := ""
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		if raw, _ := io.ReadAll(r.Body); r.Header.Get("Content-Type") != "application/json" ||
			!strings.Contains(string(raw), `"image":"a"`) {
			t.Errorf("asked %q", raw)
		}
		io.WriteString(w, text)
	})
	const progress, done = `{"host":"h","result":"progress","message":"1 of 2"}` + "\n", `{"host":"h","result":"success"}` + "\n"
	for _, tt := range []struct {
		text  string
		heard int
		code  structs.Code
	}{{progress + done, 2, ""}, {done, 1, ""}, {"", 0, ""}, {progress + `{"host":`, 1, structs.CodeUnavailable}} {
		text = tt.text
		heard := 0
		ended, err := c.Images().Pull(t.Context(), &structs.ImagePullRequest{Image: "a"}, func(structs.HostResult) { heard++ })
		if structs.CodeOf(err) != tt.code || heard != tt.heard || len(ended) != strings.Count(tt.text, "success") {
			t.Errorf("%q: heard %d, ended %+v, %v", tt.text, heard, ended, err)
		}
	}
}

func TestLimitedReaderRefusesTooMuch(t *testing.T) {
	b := &limitedReader{r: strings.NewReader("0123456789x"), left: 10, tooLarge: errImageFileTooLarge}
	if _, err := io.ReadAll(b); structs.CodeOf(err) != structs.CodeTooLarge || b.readError() == nil {
		t.Errorf("more than fits: %v", err)
	}
}

func TestVolumeRequests(t *testing.T) {
	asked := ""
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		if asked = r.Method + " " + r.URL.RequestURI(); r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		answer(w, 200, "", `{"volumes":[{"name":"data","used_by":["web"],"host":"h"}],"errors":[]}`)
	})
	list, meta, err := c.Volumes().List(t.Context(), HostListOptions{})
	if err != nil || len(list.Volumes) != 1 || list.Volumes[0].Name != "data" || len(meta.Items) != 1 || asked != "GET /v1/volumes" {
		t.Errorf("%+v, %v, asked %s", list, err, asked)
	}
	if _, err := c.Volumes().Delete(t.Context(), "a b", VolumeTarget{Bay: "b", Host: "h", ProjectID: "p"}); err != nil ||
		asked != "DELETE /v1/volumes/a%20b?bay=b&host=h&project_id=p" {
		t.Errorf("%v, asked %s", err, asked)
	}
	if _, err := c.Volumes().Delete(t.Context(), "..", VolumeTarget{}); structs.CodeOf(err) != structs.CodeInvalid {
		t.Errorf("no name: %v", err)
	}
}
