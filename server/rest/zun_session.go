package rest

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

	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// logsZun answers with a container's output as a JSON string: the client prints
// it as it is.
func logsZun(q *request) error {
	since := q.query.Text("since")
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04:05,999999999", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, since); err == nil { // in UTC
			q.query.Values.Set("since", t.Format(time.RFC3339))
		}
	}
	r, err := wire.LogsRequest(q.query)
	if err != nil {
		return err
	}
	text, err := q.service.Sessions.LogsText(q.ctx(), &q.call, q.ident(), r)
	if err != nil {
		return err
	}
	return q.json(http.StatusOK, text)
}

// zunOutput answers an execute.
type zunOutput struct {
	Output   string  `json:"output"`
	ExitCode *int    `json:"exit_code"`
	ExecID   *string `json:"exec_id"`   // of an interactive one, whose output is on ProxyURL
	ProxyURL *string `json:"proxy_url"` // a WebSocket

	Truncated bool `json:"truncated,omitempty"` // the end of the output is missing
}

// execute executes a command, or prepares an interactive one.
func (ts *terminalSet) execute(q *request) error {
	r, err := wire.ExecRequest(q.query)
	if err != nil {
		return err
	}
	if q.query.Bool("interactive", false) {
		return ts.prepare(q, r)
	}
	out, err := q.service.Sessions.Execute(q.ctx(), &q.call, q.ident(), r)
	if err != nil {
		return err
	}
	return q.json(http.StatusOK, zunOutput{Output: string(out.Both), ExitCode: out.ExitCode, Truncated: out.Truncated})
}

// zunStats is what a container uses, under the words that the client prints.
type zunStats struct {
	Container string  `json:"CONTAINER"`
	CPU       float64 `json:"CPU %"`
	Used      float64 `json:"MEM USAGE(MiB)"`
	Limit     float64 `json:"MEM LIMIT(MiB)"`
	Memory    float64 `json:"MEM %"`
	Block     string  `json:"BLOCK I/O(B)"`
	Network   string  `json:"NET I/O(B)"`
}

func statsZun(q *request) error {
	c, s, err := q.service.Sessions.Stats(q.ctx(), &q.call, q.ident())
	if err != nil {
		return err
	}
	hundredths := func(n float64) float64 { return math.Round(n*100) / 100 }
	body := zunStats{
		Container: c.Name, CPU: hundredths(s.CPUPercent),
		Used: hundredths(float64(s.MemoryUsed) / (1 << 20)), Limit: hundredths(float64(s.MemoryLimit) / (1 << 20)),
		Block: fmt.Sprintf("%d/%d", s.BlockIn, s.BlockOut), Network: fmt.Sprintf("%d/%d", s.NetworkIn, s.NetworkOut),
	}
	if s.MemoryLimit > 0 {
		body.Memory = hundredths(100 * float64(s.MemoryUsed) / float64(s.MemoryLimit))
	}
	return q.json(http.StatusOK, body)
}

// zunTop is the processes of a container.
type zunTop struct {
	Titles    []string   `json:"Titles"`
	Processes [][]string `json:"Processes"`
}

func topZun(q *request) error {
	args, err := structs.ParsePS(q.query.Text("ps_args"))
	if err != nil {
		return err
	}
	top, err := q.service.Sessions.Top(q.ctx(), &q.call, q.ident(), args)
	if err != nil {
		return err
	}
	return q.json(http.StatusOK, zunTop{top.Titles, top.Processes})
}

// zunStat says what the first entry of an archive is.
type zunStat struct {
	Name       string       `json:"name"`
	Size       int64        `json:"size"`
	Mode       int64        `json:"mode"`
	MTime      structs.Time `json:"mtime"`
	LinkTarget string       `json:"linkTarget"`
}

// getArchiveZun answers with an archive in base64, written as it is encoded.
func getArchiveZun(q *request) error {
	var archive service.Archive
	defer archive.Close()
	if err := q.service.Sessions.GetArchive(q.ctx(), &q.call, q.ident(), q.query.Text("path"), &archive); err != nil {
		return err
	}
	var stat zunStat
	if h, err := tar.NewReader(archive.Reader()).Next(); err == nil {
		stat = zunStat{h.Name, h.Size, h.Mode, structs.Time{Time: h.ModTime}, h.Linkname}
	}
	head, err := json.Marshal(stat)
	if err != nil {
		return err
	}
	q.w.Header().Set("Content-Type", "application/json")
	q.w.WriteHeader(http.StatusOK)
	out := bufio.NewWriter(q.w)
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

// putArchiveZun unpacks an archive in base64, read as it is decoded.
func putArchiveZun(q *request) error {
	var archive service.Archive
	defer archive.Close()
	if err := readZunArchive(q.r.Body, &archive); err != nil {
		return q.unread(err)
	}
	if err := q.service.Sessions.PutArchive(q.ctx(), &q.call, q.ident(), q.query.Text("path"), &archive); err != nil {
		return err
	}
	return accepted(q)
}

// readZunArchive reads {"data": "BASE64"}. Nothing else is taken, so that 85 MiB
// of it need not be held to be read.
func readZunArchive(r io.Reader, archive *service.Archive) error {
	malformed := structs.Errorf(structs.CodeInvalid, "The request's body is an object of one field: {\"data\": \"an archive in base64\"}.")
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

// expect reads white space and then the text; "" stands for the end.
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
