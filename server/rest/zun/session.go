package zun

import (
	"archive/tar"
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"time"

	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// getLogs answers with a container's output as a JSON string, which the client prints
// unchanged.
func getLogs(q *web.Request) error {
	since := q.Query.Text("since")
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04:05,999999999", "2006-01-02T15:04:05", "2006-01-02 15:04",
		"2006-01-02"} {
		if t, err := time.Parse(layout, since); err == nil { // in UTC
			q.Query.Values.Set("since", t.Format(time.RFC3339))
		}
	}
	r, err := wire.LogsRequest(q.Query)
	if err != nil {
		return err
	}
	text, err := q.Service.Sessions().LogsText(q.Context(), &q.Call, q.Ident(), r)
	if err != nil {
		return err
	}
	web.Text(q, text)
	return nil
}

// execOutput answers an execute.
type execOutput struct {
	Output   string  `json:"output"`
	ExitCode *int    `json:"exit_code"`
	ExecID   *string `json:"exec_id"`   // only for an interactive command, whose output is at ProxyURL
	ProxyURL *string `json:"proxy_url"` // URL of a WebSocket

	Truncated bool `json:"truncated,omitempty"` // the end of the output was dropped
}

// execute executes a command, or prepares a terminal for an interactive command.
func (ts *terminals) execute(q *web.Request) error {
	r, err := wire.ExecRequest(q.Query)
	if err != nil {
		return err
	}
	if q.Query.Bool("interactive", false) {
		return ts.prepare(q, r)
	}
	out, err := q.Service.Sessions().Execute(q.Context(), &q.Call, q.Ident(), r)
	if err != nil {
		return err
	}
	if err := q.Use.Grow(len(out.Both)); err != nil { // a copy, before it is encoded
		return err
	}
	return q.JSON(http.StatusOK, execOutput{Output: string(out.Both), ExitCode: out.ExitCode, Truncated: out.Truncated})
}

// containerStats is a container's resource usage, with the column titles that the client
// prints as names.
type containerStats struct {
	Container string  `json:"CONTAINER"`
	CPU       float64 `json:"CPU %"`
	Used      float64 `json:"MEM USAGE(MiB)"`
	Limit     float64 `json:"MEM LIMIT(MiB)"`
	Memory    float64 `json:"MEM %"`
	Block     string  `json:"BLOCK I/O(B)"`
	Network   string  `json:"NET I/O(B)"`
}

func getStats(q *web.Request) error {
	c, s, err := q.Service.Sessions().Stats(q.Context(), &q.Call, q.Ident())
	if err != nil {
		return err
	}
	hundredths := func(n float64) float64 { return math.Round(n*100) / 100 }
	body := containerStats{
		Container: c.Name, CPU: hundredths(s.CPUPercent),
		Used: hundredths(float64(s.MemoryUsed) / (1 << 20)), Limit: hundredths(float64(s.MemoryLimit) / (1 << 20)),
		Block: fmt.Sprintf("%d/%d", s.BlockIn, s.BlockOut), Network: fmt.Sprintf("%d/%d", s.NetworkIn, s.NetworkOut),
	}
	if s.MemoryLimit > 0 {
		body.Memory = hundredths(100 * float64(s.MemoryUsed) / float64(s.MemoryLimit))
	}
	return q.JSON(http.StatusOK, body)
}

// processes are the processes of a container.
type processes struct {
	Titles    []string   `json:"Titles"`
	Processes [][]string `json:"Processes"`
}

func getTop(q *web.Request) error {
	args, err := structs.ParsePS(q.Query.Text("ps_args"))
	if err != nil {
		return err
	}
	top, err := q.Service.Sessions().Top(q.Context(), &q.Call, q.Ident(), args)
	if err != nil {
		return err
	}
	return q.JSON(http.StatusOK, processes{top.Titles, top.Processes})
}

// fileStat describes the first entry of an archive.
type fileStat struct {
	Name       string       `json:"name"`
	Size       int64        `json:"size"`
	Mode       int64        `json:"mode"`
	MTime      structs.Time `json:"mtime"`
	LinkTarget string       `json:"linkTarget"`
}

// getArchive answers with an archive in base64, which is encoded while it is written.
func getArchive(q *web.Request) error {
	var archive service.Archive
	defer archive.Close()
	if err := q.Service.Sessions().GetArchive(q.Context(), &q.Call, q.Ident(), q.Query.Text("path"), &archive); err != nil {
		return err
	}
	var stat fileStat
	if h, err := tar.NewReader(archive.Reader()).Next(); err == nil {
		stat = fileStat{h.Name, h.Size, h.Mode, structs.Time{Time: h.ModTime}, h.Linkname}
	}
	head, err := json.Marshal(stat)
	if err != nil {
		return err
	}
	q.W.Header().Set("Content-Type", "application/json")
	q.W.WriteHeader(http.StatusOK)
	out := bufio.NewWriter(q.W)
	fmt.Fprintf(out, `{"stat":%s,"data":"`, head)
	encoded := base64.NewEncoder(base64.StdEncoding, out)
	if _, err := io.Copy(encoded, archive.Reader()); err != nil {
		return err
	}
	if err := encoded.Close(); err != nil {
		return err
	}
	out.WriteString(`"}`)
	return out.Flush()
}

// putArchive unpacks an archive in base64, which is decoded while it is read.
func putArchive(q *web.Request) error {
	var archive service.Archive
	defer archive.Close()
	if err := readArchive(q.R.Body, &archive); err != nil {
		return q.CloseOnError(err)
	}
	if err := q.Service.Sessions().PutArchive(q.Context(), &q.Call, q.Ident(), q.Query.Text("path"), &archive); err != nil {
		return err
	}
	return accepted(q)
}

// readArchive reads {"data": "BASE64"} into archive. It accepts no other form, so that a
// large body need not be held in memory. Errors are CodeInvalid and those of Fill.
func readArchive(r io.Reader, archive *service.Archive) error {
	malformed := structs.Errorf(structs.CodeInvalid, "The request's body must be an object with one field: {\"data\": \"an archive in "+
		"base64\"}.")
	in := bufio.NewReader(r)
	for _, want := range []string{"{", `"data"`, ":", `"`} {
		if !expect(in, want) {
			return malformed
		}
	}
	text := &untilQuote{in: in}
	if err := archive.Fill(base64.NewDecoder(base64.StdEncoding, text)); err != nil {
		return err
	}
	if !text.ended || !expect(in, "}") || !expect(in, "") {
		return malformed
	}
	return nil
}

// expect reads white space and then text, and reports whether both were there. "" stands
// for the end of the input.
func expect(in *bufio.Reader, text string) bool {
	for {
		c, err := in.ReadByte()
		switch {
		case err != nil:
			return err == io.EOF && text == ""
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			continue
		case text == "" || c != text[0]:
			return false
		}
		rest := make([]byte, len(text)-1)
		_, err = io.ReadFull(in, rest)
		return err == nil && string(rest) == text[1:]
	}
}

// untilQuote reads up to the quote that ends a string of base64.
type untilQuote struct {
	in    *bufio.Reader
	ended bool
}

func (u *untilQuote) Read(p []byte) (int, error) {
	for n := range p {
		if u.ended {
			return n, io.EOF
		}
		c, err := u.in.ReadByte()
		if err != nil {
			return n, io.ErrUnexpectedEOF
		}
		if c == '"' {
			u.ended = true
			return n, io.EOF
		}
		p[n] = c
	}
	return len(p), nil
}
