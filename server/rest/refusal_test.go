package rest_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

const unknownID = "00000000-0000-4000-8000-000000000000"

// TestRefusals provokes every refusal of the contract. It checks the status, the whole
// message, and that the state hasn't changed.
func TestRefusals(t *testing.T) {
	f := newFixture(t)
	f.do("POST", "/v1/baymodels", `{"name":"bm","coe":"docker"}`).is(201)
	model := f.do("GET", "/v1/baymodels/bm", "").uuid()
	f.do("POST", "/v1/bays", `{"name":"used","baymodel_id":"bm"}`).is(201) // waits for a host
	for range 2 {
		f.do("POST", "/v1/bays", `{"name":"twins"}`).is(201)
		f.do("POST", "/v1/baymodels", `{"name":"twins","coe":"docker"}`).is(201)
		f.do("POST", "/v1/containers?wait=1m", `{"name":"twins","image":"busybox","bay":"`+f.bay+`"}`).is(201)
	}
	f.do("POST", "/v1/bays", `{"name":"kube","coe":"kubernetes"}`).is(201)
	node := f.do("POST", "/v1/nodes", `{"type":"virt"}`).uuid()
	create := func(name, query string) string {
		return f.do("POST", "/v1/containers?wait=1m"+query, `{"name":"`+name+`","image":"busybox","bay":"b1"}`).is(201).uuid()
	}
	create("run", "&run=true")
	stopped, paused := create("stop", ""), create("pause", "&run=true")
	f.do("PUT", "/v1/containers/"+paused+"/pause", "").is(200)
	waiting := f.do("POST", "/v1/containers", `{"name":"big","image":"busybox","bay":"b1","memory":"100g"}`).is(201).uuid()

	long := strings.Repeat("ü", 256)
	field := func(name, value, reason string) string {
		return "Invalid input for field/attribute " + name + ". Value: '" + value + "'. " + reason
	}
	tooLong := "Invalid input for field/attribute name. Value: '" + strings.Repeat("ü", 32) +
		"...' (256 characters). Value should have a maximum character requirement of 255"
	empty := "Invalid input for field/attribute name. Value: ''. Value should have a minimum character requirement of 1"
	twins := func(kind string) string {
		return "Multiple " + kind + "s exist with same name. Please use the " + kind + " uuid instead."
	}
	const patchPattern = `Value should match the pattern ^(/[\w-]+)+$`
	b, m, c, n := "/v1/bays/b1", "/v1/baymodels/"+model, "/v1/containers/"+stopped, "/v1/nodes/"+node
	patch := func(ops string) string { return "[" + ops + "]" }

	for _, tt := range []struct {
		method, path, body string
		status             int
		message            string
	}{
		// Paths, methods, identifiers.
		{"GET", "/v1/bogus", "", 404, "The resource could not be found."},
		{"GET", "/bogus/deep/er", "", 404, "The resource could not be found."},
		{"GET", "/v1/bays/" + f.bay + "/detail", "", 404, "The resource could not be found."},
		{"GET", "/v1/v1/bays", "", 404, "The resource could not be found."},
		{"GET", "/v1/Bays", "", 404, "The resource could not be found."},
		{"PUT", "/v1/bays", "", 405, "The method PUT is not allowed for this resource: it takes GET, POST."},
		{"POST", b, "{}", 405, "The method POST is not allowed for this resource: it takes DELETE, GET, PATCH."},
		{"GET", "/v1/containers/run/start", "", 405, "The method GET is not allowed for this resource: it takes PUT."},
		{"PUT", "/v1/containers/run/logs", "", 405, "The method PUT is not allowed for this resource: it takes GET."},
		{"GET", "/v1/containers/run/execute", "", 405, "The method GET is not allowed for this resource: it takes PUT."},
		{"DELETE", "/", "", 405, "The method DELETE is not allowed for this resource: it takes GET."},
		{"GET", "/v1/bays/nope", "", 404, "Bay nope could not be found."},
		{"GET", "/v1/bays/" + unknownID, "", 404, "Bay " + unknownID + " could not be found."},
		{"GET", "/v1/bays/" + strings.ToUpper(f.bay), "", 404, "Bay " + strings.ToUpper(f.bay) + " could not be found."},
		{"GET", "/v1/bays/%C3%BC%20n", "", 404, "Bay ü n could not be found."},
		{"GET", "/v1/baymodels/nope", "", 404, "BayModel nope could not be found."},
		{"GET", "/v1/containers/nope", "", 404, "Container nope could not be found."},
		{"GET", "/v1/hosts/nope", "", 404, "Host nope could not be found."},
		{"GET", "/v1/nodes/" + unknownID, "", 404, "Node " + unknownID + " could not be found."},
		{"GET", "/v1/nodes/nope", "", 400, "Expected a uuid but received nope."},
		{"DELETE", "/v1/nodes/nope", "", 400, "Expected a uuid but received nope."},
		{"DELETE", "/v1/nodes/" + unknownID, "", 404, "Node " + unknownID + " could not be found."},
		{"PATCH", "/v1/nodes/nope", "[]", 400, "Expected a uuid but received nope."},
		{"PATCH", "/v1/baymodels/bm", "[]", 400, "Expected a uuid but received bm."},
		{"PATCH", "/v1/baymodels/" + unknownID, "[]", 404, "BayModel " + unknownID + " could not be found."},
		{"PATCH", "/v1/bays/nope", "[]", 404, "Bay nope could not be found."},
		{"PATCH", "/v1/containers/nope", "[]", 404, "Container nope could not be found."},
		{"DELETE", "/v1/bays/nope", "", 404, "Bay nope could not be found."},
		{"DELETE", "/v1/baymodels/nope", "", 404, "BayModel nope could not be found."},
		{"DELETE", "/v1/containers/nope", "", 404, "Container nope could not be found."},
		{"PUT", "/v1/containers/nope/start", "", 404, "Container nope could not be found."},
		{"GET", "/v1/containers/nope/logs", "", 404, "Container nope could not be found."},
		{"PUT", "/v1/containers/nope/execute?command=ls", "", 404, "Container nope could not be found."},
		// Names that several objects have.
		{"GET", "/v1/bays/twins", "", 409, twins("bay")},
		{"PATCH", "/v1/bays/twins", patch(`{"op":"replace","path":"/node_count","value":2}`), 409, twins("bay")},
		{"DELETE", "/v1/bays/twins", "", 409, twins("bay")},
		{"GET", "/v1/baymodels/twins", "", 409, twins("baymodel")},
		{"DELETE", "/v1/baymodels/twins", "", 409, twins("baymodel")},
		{"GET", "/v1/containers/twins", "", 409, twins("container")},
		{"PUT", "/v1/containers/twins/start", "", 409, twins("container")},
		{"DELETE", "/v1/containers/twins", "", 409, twins("container")},
		{"GET", "/v1/containers/twins/logs", "", 409, twins("container")},
		{"PUT", "/v1/containers/twins/execute?command=ls", "", 409, twins("container")},
		{"PATCH", "/v1/containers/twins", patch(`{"op":"replace","path":"/name","value":"x"}`), 409, twins("container")},
		{"POST", "/v1/containers", `{"image":"busybox","bay":"twins"}`, 409, twins("bay")},
		{"POST", "/v1/bays", `{"baymodel_id":"twins"}`, 409, twins("baymodel")},
		// Query arguments.
		{"GET", "/v1/bays?bogus=1", "", 400, `Unknown argument: "bogus"`},
		{"GET", b + "?limit=1", "", 400, `Unknown argument: "limit"`},
		{"POST", "/v1/bays?run=true", "{}", 400, `Unknown argument: "run"`},
		{"PUT", "/v1/containers/run/start?timeout=1", "", 400, `Unknown argument: "timeout"`},
		{"GET", "/v1/bays?limit=x", "", 400, field("limit", "x", "It is not a whole number.")},
		{"GET", "/v1/bays?limit=0", "", 400, "Limit must be positive"},
		{"GET", "/v1/bays?limit=-1", "", 400, "Limit must be positive"},
		{"GET", "/v1/bays?limit=99999999999999999999", "", 400, field("limit", "99999999999999999999", "It is not a whole number.")},
		{"GET", "/v1/bays?limit=1&limit=2", "", 400, `The argument "limit" is given 2 times.`},
		{"GET", "/v1/bays?marker=b1", "", 400, "Expected a uuid but received b1."},
		{"GET", "/v1/bays?marker=", "", 400, "Expected a uuid but received ."},
		{"GET", "/v1/bays/detail?marker=" + unknownID, "", 404, "Bay " + unknownID + " could not be found."},
		{"GET", "/v1/bays?sort_dir=up", "", 400, "Invalid sort direction: up. Acceptable values are 'asc' or 'desc'"},
		{"GET", "/v1/nodes?sort_key=bogus", "", 400,
			"The sort_key value (bogus) is invalid for sorting: it is one of created_at, id, image_id, ironic_node_id, name, type, " +
				"updated_at, uuid"},
		{"GET", "/v1/bays?x=%zz", "", 400, `The query "x=%zz" can't be read: invalid URL escape "%zz"`},
		{"GET", "/v1/containers?bay=nope", "", 400, "Bay nope could not be found."},
		{"GET", "/v1/containers?label==v", "", 400, field("label", "=v", "It is written as key=value, or as key.")},
		{"GET", "/v1/containers?all_projects=maybe", "", 400, field("all_projects", "maybe", "It is neither true nor false.")},
		{"GET", b + "?index=x", "", 400, field("index", "x", "It is not a whole number.")},
		{"GET", b + "?index=-1", "", 400, field("index", "-1", "It must not be negative.")},
		{"GET", b + "?wait=soon", "", 400, field("wait", "soon", "It is not a duration, such as 30s or 2m.")},
		{"GET", b + "?wait=-1s", "", 400, field("wait", "-1s", "It must not be negative.")},
		{"GET", b + "?wait=601", "", 400, field("wait", "601", "It must not be longer than 10m0s.")},
		{"GET", b + "?wait=nan", "", 400, field("wait", "nan", "It is not a duration, such as 30s or 2m.")},
		{"PUT", "/v1/containers/run/stop?timeout=3601", "", 400,
			field("timeout", "3601", "Value should be lesser or equal to 3600 seconds")},
		{"PUT", "/v1/containers/run/stop?timeout=-1", "", 400, field("timeout", "-1", "It must not be negative.")},
		{"POST", "/v1/containers?run=perhaps", `{"image":"busybox"}`, 400, field("run", "perhaps", "It is neither true nor false.")},
		{"PUT", "/v1/containers/run/execute", "", 400, `Missing argument: "command"`},
		{"PUT", "/v1/containers/run/execute?split=true", "", 400, `Missing argument: "command"`},
		{"PUT", "/v1/containers/run/execute?command=", "", 400, field("command", "", "It names no program.")},
		{"PUT", "/v1/containers/run/execute?command=" + strings.Repeat("x", structs.MaxCommand+1), "", 400,
			"command: 65537 bytes are more than 65536"},
		{"PUT", "/v1/containers/run/execute?command=ls&user=" + strings.Repeat("x", structs.MaxText+1), "", 400,
			"user: 4097 bytes are more than 4096"},
		{"PUT", "/v1/containers/run/execute?command=ls&workdir=/" + strings.Repeat("x", structs.MaxText), "", 400,
			"workdir: 4097 bytes are more than 4096"},
		{"PUT", "/v1/containers/run/execute?command=ls&user=%00", "", 400, `user: "\x00" is not UTF-8 text without NUL bytes`},
		{"PUT", "/v1/containers/run/execute?command=ls" + strings.Repeat("&env=A="+strings.Repeat("x", 60000), 5), "", 400,
			"env: 300014 bytes are more than 262144"},
		{"PUT", "/v1/containers/run/execute?command=[]", "", 400, field("command", "[]", "It names no program.")},
		{"PUT", "/v1/containers/run/execute?command=%27ls", "", 400, field("command", "'ls", `command "'ls" has an unclosed quote '.`)},
		{"PUT", "/v1/containers/run/execute?command=%00", "", 400, `command: "\x00" is not UTF-8 text without NUL bytes`},
		{"PUT", "/v1/containers/run/kill?signal=SIGNOPE", "", 400,
			`signal "SIGNOPE" is unknown: give a name such as SIGHUP or HUP, or a number in 1..31 or 34..64`},
		{"PUT", "/v1/containers/run/kill?signal=0", "", 400,
			`signal "0" is unknown: give a name such as SIGHUP or HUP, or a number in 1..31 or 34..64`},
		{"PUT", "/v1/containers/run/start?signal=HUP", "", 400, `Unknown argument: "signal"`},
		{"PUT", "/v1/containers/run/rename", "", 400, `Missing argument: "name"`},
		{"PUT", "/v1/containers/run/rename?name=", "", 400, empty},
		{"PUT", "/v1/containers/run/rename?name=" + url.QueryEscape(long), "", 400, tooLong},
		{"PUT", "/v1/containers/run/rebuild?image=", "", 400,
			"Invalid input for field/attribute image_id. Mandatory field missing: name an image, such as busybox:latest."},
		{"PUT", "/v1/containers/run/rebuild?image=a+b", "", 400, `image_id "a b" contains white space: write it as [registry/]name[:tag]`},
		{"GET", "/v1/containers/run/top?ps_args=%24(id)", "", 400, field("ps_args", "$(id)",
			"It is -ef, -e, aux, or -o with some of the columns "+strings.Join(structs.PSColumns, ",")+".")},
		{"GET", "/v1/containers/run/archive", "", 400, `Missing argument: "path"`},
		{"GET", "/v1/containers/run/archive?path=etc", "", 400, field("path", "etc", "It is not an absolute path of up to 4096 bytes.")},
		{"PUT", "/v1/containers/run/archive?path=", "", 400, field("path", "", "It is not an absolute path of up to 4096 bytes.")},
		{"GET", "/v1/containers/run/attach/ws", "", 400, "This is a WebSocket: the request has to upgrade to one."},
		{"GET", "/v1/containers/nope/stats", "", 404, "Container nope could not be found."},
		{"GET", "/v1/containers/nope/top", "", 404, "Container nope could not be found."},
		{"GET", "/v1/containers/nope/archive?path=/", "", 404, "Container nope could not be found."},
		{"PUT", "/v1/containers/nope/archive?path=/", "", 404, "Container nope could not be found."},
		{"PUT", "/v1/containers/nope/kill", "", 404, "Container nope could not be found."},
		{"PUT", "/v1/containers/nope/rename?name=x", "", 404, "Container nope could not be found."},
		{"PUT", "/v1/containers/run/rebuild?image=UPPER:tag:tag", "", 400,
			`image_id "UPPER:tag:tag" is not an image name: write it as [registry[:port]/]name[:tag][@sha256:...], the name in lower case`},
		{"PUT", "/v1/containers/nope/rebuild", "", 404, "Container nope could not be found."},
		{"PUT", "/v1/containers/twins/kill", "", 409, twins("container")},
		{"PUT", "/v1/containers/stop/kill", "", 409,
			"Cannot kill container stop: it is Stopped, and only a running container can be sent a signal"},
		{"GET", "/v1/containers/stop/stats", "", 409, "Container stop is Stopped: only one that is Running or Paused has processes"},
		{"GET", "/v1/containers/stop/top", "", 409, "Container stop is Stopped: only one that is Running or Paused has processes"},
		{"PATCH", c, patch(`{"op":"replace","path":"/memory","value":"lots"}`), 400,
			field("memory", "lots", `"lots" is not a size: write bytes, or a number with k, m, g or t, such as 512m.`)},
		{"PATCH", c, patch(`{"op":"replace","path":"/memory","value":1024}`), 400,
			"memory 1024 not in 6291456..1125899906842624 bytes (0: no limit)"},
		{"PATCH", c, patch(`{"op":"replace","path":"/memory","value":"16g"}`), 409,
			"memory 17179869184: host host-1 has 8589934592 bytes left for container stop"},
		{"PATCH", c, patch(`{"op":"replace","path":"/cpu","value":4.5}`), 409, "cpu 4.5: host host-1 has 4 cores left for container stop"},
		{"PATCH", c, patch(`{"op":"replace","path":"/cpu","value":-1}`), 400, "cpu -1 not in 0..1048 cores"},
		{"PATCH", c, patch(`{"op":"replace","path":"/health","value":"healthy"}`), 400, "cannot change container property(ies) health."},
		{"POST", "/v1/containers", `{"image":"x","health":"healthy"}`, 400, field("health", "healthy", "Cannot set read only field.")},
		{"POST", "/v1/containers", `{"image":"x","healthcheck":{"test":"x","bogus":1}}`, 400,
			"Unknown attribute for argument healthcheck: healthcheck.bogus"},
		{"POST", "/v1/containers", `{"image":"x","healthcheck":{"test":"x","interval":-1}}`, 400,
			"healthcheck.interval -1 not in 0..86400 seconds (0: the engine's default)"},
		{"POST", "/v1/containers", `{"image":"x","registry":{"username":"u"}}`, 400,
			"registry: credentials need a username and a password, and one of them is missing"},
		{"PUT", "/v1/containers/run/execute?command=ls&env=X", "", 400, field("env", "X", "It is written as KEY=VALUE.")},
		{"PUT", "/v1/containers/run/execute?command=ls&workdir=tmp", "", 400, field("workdir", "tmp", "It is not an absolute path.")},
		{"GET", "/v1/containers/run/logs?tail=few", "", 400, field("tail", "few", "It is a number of lines, or all.")},
		{"GET", "/v1/containers/run/logs?tail=-1", "", 400, field("tail", "-1", "It is a number of lines, or all.")},
		{"GET", "/v1/containers/run/logs?since=yesterday", "", 400,
			field("since", "yesterday", "It is a time such as 2015-04-20T19:06:08Z, seconds since 1970, or a duration before now such as "+
				"10m.")},
		{"GET", "/v1/containers/run/logs?since=-5m", "", 400,
			field("since", "-5m", "It is a time such as 2015-04-20T19:06:08Z, seconds since 1970, or a duration before now such as 10m.")},
		{"GET", "/v1/containers/run/logs?stdout=false&stderr=false", "", 400,
			"stdout and stderr are both false: there is nothing left to show"},
		{"GET", "/v1/containers/run/execute/ws?command=sh", "", 400, "This is a WebSocket: the request has to upgrade to one."},
		// Bodies.
		{"POST", "/v1/bays", "", 400, "The request's body is not valid JSON (after 0 bytes): unexpected end of JSON input"},
		{"POST", "/v1/bays", "{", 400, "The request's body is not valid JSON (after 1 bytes): unexpected end of JSON input"},
		{"POST", "/v1/bays", `{"name":"a"} {}`, 400,
			"The request's body is not valid JSON (after 14 bytes): invalid character '{' after top-level value"},
		{"POST", "/v1/bays", "[]", 400, "The request's body is a list: it has to be an object with the fields of a bay."},
		{"POST", "/v1/bays", "null", 400, "The request's body is null: it has to be an object with the fields of a bay."},
		{"POST", "/v1/bays", `"x"`, 400, "The request's body is a string: it has to be an object with the fields of a bay."},
		{"POST", "/v1/bays", "{\"name\":\"\xff\"}", 400, "The request's body is not UTF-8 text."},
		{"POST", "/v1/bays", `{"bogus":1}`, 400, "Unknown attribute for argument bay: bogus"},
		{"POST", "/v1/bays", `{"Name":"x"}`, 400, "Unknown attribute for argument bay: Name"},
		{"POST", "/v1/bays", `{"project_id":"other"}`, 400, "Unknown attribute for argument bay: project_id"},
		{"POST", "/v1/bays", `{"name":"a","name":"b"}`, 400, "The attribute name is given twice."},
		{"POST", "/v1/bays", `{"api_address":"x"}`, 400, field("api_address", "x", "Cannot set read only field.")},
		{"POST", "/v1/bays", `{"node_addresses":["x"]}`, 400, field("node_addresses", `["x"]`, "Cannot set read only field.")},
		{"POST", "/v1/bays", `{"status":"CREATE_COMPLETE"}`, 400, field("status", "CREATE_COMPLETE", "Cannot set read only field.")},
		{"POST", "/v1/bays", `{"name":""}`, 400, empty},
		{"POST", "/v1/bays", `{"name":"` + long + `"}`, 400, tooLong},
		{"POST", "/v1/bays", `{"name":5}`, 400, field("name", "5", "Wrong type. Expected a string, got a number.")},
		{"POST", "/v1/bays", `{"name":"a\u0000b"}`, 400, `name: "a\x00b" is not UTF-8 text without NUL bytes`},
		{"POST", "/v1/bays", `{"uuid":"x"}`, 400, field("uuid", "x", "Expected a uuid but received x.")},
		{"POST", "/v1/bays", `{"uuid":"` + f.bay + `"}`, 409, "A bay with UUID " + f.bay + " already exists."},
		{"POST", "/v1/bays", `{"node_count":"two"}`, 400, field("node_count", "two", `"two" is not a whole number.`)},
		{"POST", "/v1/bays", `{"node_count":1.5}`, 400, field("node_count", "1.5", "1.5 is not a whole number.")},
		{"POST", "/v1/bays", `{"node_count":[1]}`, 400, field("node_count", "[1]", "[1] is not a single value.")},
		{"POST", "/v1/bays", `{"node_count":0}`, 400, field("node_count", "0", "Value should be greater or equal to 1")},
		{"POST", "/v1/bays", `{"node_count":"1001"}`, 400, field("node_count", "1001", "Value should be lesser or equal to 1000")},
		{"POST", "/v1/bays", `{"bay_create_timeout":-1}`, 400, field("bay_create_timeout", "-1", "Value should be greater or equal to 0")},
		{"POST", "/v1/bays", `{"bay_create_timeout":99999999}`, 400,
			field("bay_create_timeout", "99999999", "Value should be lesser or equal to 527040 minutes")},
		{"POST", "/v1/bays", `{"coe":"mesos"}`, 400, field("coe", "mesos", "Value should be one of: 'docker', 'swarm', 'kubernetes'")},
		{"POST", "/v1/bays", `{"placement":"anywhere"}`, 400,
			field("placement", "anywhere", "Value should be one of: 'spread', 'binpack'")},
		{"POST", "/v1/bays", `{"shared":"maybe"}`, 400, field("shared", "maybe", `"maybe" is not true or false.`)},
		{"POST", "/v1/bays", `{"labels":["a"]}`, 400, field("labels", `["a"]`, "Wrong type. Expected an object of strings, got a list.")},
		{"POST", "/v1/bays", `{"labels":{"a":1}}`, 400, field("labels.a", "1", "Wrong type. Expected a string, got a number.")},
		{"POST", "/v1/bays", `{"labels":{"":"x"}}`, 400, "labels: an empty key"},
		{"POST", "/v1/bays", `{"baymodel_id":"nope"}`, 400, "BayModel nope could not be found."},
		{"POST", "/v1/bays", `{"baymodel_id":"` + unknownID + `"}`, 400, "BayModel " + unknownID + " could not be found."},
		{"POST", "/v1/baymodels", `{}`, 400, field("coe", "None", "Mandatory field missing.")},
		{"POST", "/v1/baymodels", `{"coe":null}`, 400, field("coe", "None", "Mandatory field missing.")},
		{"POST", "/v1/baymodels", `{"coe":"mesos"}`, 400, field("coe", "mesos", "Value should be one of: 'docker', 'swarm', 'kubernetes'")},
		{"POST", "/v1/baymodels", `{"coe":"docker","name":""}`, 400, empty},
		{"POST", "/v1/baymodels", `{"coe":"docker","bogus":1}`, 400, "Unknown attribute for argument baymodel: bogus"},
		{"POST", "/v1/baymodels", `{"coe":"docker","dns_nameserver":"::1"}`, 400,
			field("dns_nameserver", "::1", "Value should be IPv4 format")},
		{"POST", "/v1/baymodels", `{"coe":"docker","dns_nameserver":"8.8.8"}`, 400,
			field("dns_nameserver", "8.8.8", "Value should be IPv4 format")},
		{"POST", "/v1/baymodels", `{"coe":"docker","docker_volume_size":"0"}`, 400,
			field("docker_volume_size", "0", "Value should be greater or equal to 1")},
		{"POST", "/v1/baymodels", `{"coe":"docker","apiserver_port":1023}`, 400,
			field("apiserver_port", "1023", "Value should be greater or equal to 1024")},
		{"POST", "/v1/baymodels", `{"coe":"docker","apiserver_port":"65536"}`, 400,
			field("apiserver_port", "65536", "Value should be lesser or equal to 65535")},
		{"POST", "/v1/baymodels", `{"coe":"docker","keypair_id":"` + strings.Repeat("k", 256) + `"}`, 400,
			"keypair_id: 256 bytes are more than 255"},
		{"POST", "/v1/nodes", `{"bogus":1}`, 400, "Unknown attribute for argument node: bogus"},
		{"POST", "/v1/nodes", `{"type":1}`, 400, field("type", "1", "Wrong type. Expected a string, got a number.")},
		{"POST", "/v1/containers", `{"image":"busybox","bogus":1}`, 400, "Unknown attribute for argument container: bogus"},
		{"POST", "/v1/containers", `{"image":"busybox","status":"Running"}`, 400, field("status", "Running",
			"Cannot set read only field.")},
		{"POST", "/v1/containers", `{"bay":"b1"}`, 400,
			"Invalid input for field/attribute image_id. Mandatory field missing: name an image, such as busybox:latest."},
		{"POST", "/v1/containers", `{"image":"a","image_id":"b","bay":"b1"}`, 400,
			`image "a" and image_id "b" are two spellings of one field: give one of them`},
		{"POST", "/v1/containers", `{"image":"a","bay_uuid":"x","bay":"y"}`, 400,
			`bay "y" and bay_uuid "x" are two spellings of one field: give one of them`},
		{"POST", "/v1/containers", `{"image":"a b"}`, 400, `image_id "a b" contains white space: write it as [registry/]name[:tag]`},
		{"POST", "/v1/containers", `{"image":"a","bay_uuid":"nope"}`, 400, "Bay nope could not be found."},
		{"POST", "/v1/containers", `{"image":"a","bay_uuid":"` + unknownID + `"}`, 400, "Bay " + unknownID + " could not be found."},
		{"POST", "/v1/containers", `{"image":"a","bay":"kube"}`, 400,
			"bay kube is of coe kubernetes, which runs pods and no containers by themselves: use a pod (pod-create), or a docker bay"},
		{"POST", "/v1/containers", `{"image":"a","bay":"b1","name":"` + long + `"}`, 400, tooLong},
		{"POST", "/v1/containers", `{"image":"a","bay":"b1","name":""}`, 400, empty},
		{"POST", "/v1/containers", `{"image":"a","bay":"b1","uuid":"` + stopped + `"}`, 409, "A container with UUID " + stopped +
			" already exists."},
		{"POST", "/v1/containers", `{"image":"a","command":{"a":1}}`, 400,
			field("command", `{"a":1}`, `{"a":1} is neither a string nor a list of strings.`)},
		{"POST", "/v1/containers", `{"image":"a","command":[1]}`, 400, field("command", `[1]`, `[1] is not a list of strings.`)},
		{"POST", "/v1/containers", `{"image":"a","command":"'"}`, 400, field("command", "'", `command "'" has an unclosed quote '.`)},
		{"POST", "/v1/containers", `{"image":"a","memory":"lots"}`, 400, field("memory", "lots",
			`"lots" is not a size: write bytes, or a number with k, m, g or t, such as 512m.`)},
		{"POST", "/v1/containers", `{"image":"a","memory":1}`, 400, "memory 1 not in 6291456..1125899906842624 bytes (0: no limit)"},
		{"POST", "/v1/containers", `{"image":"a","cpu":-1}`, 400, "cpu -1 not in 0..1048 cores"},
		{"POST", "/v1/containers", `{"image":"a","ports":{"a":1}}`, 400,
			field("ports", `{"a":1}`, "Wrong type. Expected a list, got an object.")},
		{"POST", "/v1/containers", `{"image":"a","ports":[1]}`, 400,
			field("ports[0]", "1", "Wrong type. Expected an object, got a number.")},
		{"POST", "/v1/containers", `{"image":"a","ports":[null]}`, 400,
			field("ports[0]", "null", "Wrong type. Expected a value, got null.")},
		{"POST", "/v1/containers", `{"image":"a","ports":[{"port":80}]}`, 400, "Unknown attribute for argument ports[0]: ports[0].port"},
		{"POST", "/v1/containers", `{"image":"a","ports":[{"container_port":"x"}]}`, 400,
			field("ports[0].container_port", "x", `"x" is not a whole number.`)},
		{"POST", "/v1/containers", `{"image":"a","ports":[{"container_port":0}]}`, 400, "ports[0].container_port 0 not in 1..65535"},
		{"POST", "/v1/containers", `{"image":"a","volumes":[{"name":"/etc","target":"/x"}]}`, 400,
			`volumes[0].name "/etc" is not a volume name: 1..128 letters, digits, dots, hyphens and underscores, the first a letter or ` +
				`digit (host paths can't be mounted)`},
		{"POST", "/v1/containers", `{"image":"a","volumes":[{"name":"v","target":"/x","read_only":"si"}]}`, 400,
			field("volumes[0].read_only", "si", `"si" is not true or false.`)},
		{"POST", "/v1/containers", `{"image":"a","restart_policy":"sometimes"}`, 400,
			`restart_policy "sometimes" must be one of no, on-failure[:n], always, unless-stopped`},
		{"POST", "/v1/containers", `{"image":"a","environment":{"A=B":"x"}}`, 400, `environment: "A=B" is not a variable's name`},
		{"POST", "/v1/containers", `{"image":"a","privileged":true}`, 400, "Unknown attribute for argument container: privileged"},
		// PATCH: the form.
		{"PATCH", b, ``, 400, "The request's body is not valid JSON (after 0 bytes): unexpected end of JSON input"},
		{"PATCH", b, `{}`, 400, `The request's body is an object: a PATCH is a list of operations, such as [{"op":"replace",` +
			`"path":"/name","value":"new"}].`},
		{"PATCH", b, `[1]`, 400, "An operation of the PATCH is a number: it has to be an object with op, path and value."},
		{"PATCH", b, patch(`{"op":"add","path":"/name","value":"x","from":"/a"}`), 400, "Unknown attribute for argument patch: from"},
		{"PATCH", b, patch(`{"path":"/name","value":"x"}`), 400, field("op", "None", "Mandatory field missing.")},
		{"PATCH", b, patch(`{"op":"test","path":"/name","value":"x"}`), 400,
			field("op", "test", "Value should be one of: 'add', 'remove', 'replace'")},
		{"PATCH", b, patch(`{"op":"add","value":"x"}`), 400, field("path", "None", "Mandatory field missing.")},
		{"PATCH", b, patch(`{"op":"add","path":"name","value":"x"}`), 400, field("path", "name", patchPattern)},
		{"PATCH", b, patch(`{"op":"add","path":"/na me","value":"x"}`), 400, field("path", "/na me", patchPattern)},
		{"PATCH", b, patch(`{"op":"add","path":"/name/","value":"x"}`), 400, field("path", "/name/", patchPattern)},
		{"PATCH", b, patch(`{"op":"add","path":"//name","value":"x"}`), 400, field("path", "//name", patchPattern)},
		{"PATCH", b, patch(`{"op":"add","path":"/node_count"}`), 400, "'add' and 'replace' operations needs value: /node_count has none"},
		{"PATCH", b, patch(`{"op":"replace","path":"/node_count","value":null}`), 400,
			"'add' and 'replace' operations needs value: /node_count has none"},
		{"PATCH", b, patch(`{"op":"replace","path":"/node_count","value":0}`), 400,
			"'add' and 'replace' operations needs value: /node_count has none"},
		{"PATCH", m, patch(`{"op":"replace","path":"/name","value":""}`), 400,
			"'add' and 'replace' operations needs value: /name has none"},
		// PATCH: what can't be changed.
		{"PATCH", b, patch(`{"op":"replace","path":"/uuid","value":"x"}`), 400, "'/uuid' is an internal attribute and can not be updated"},
		{"PATCH", b, patch(`{"op":"remove","path":"/links"}`), 400, "'/links' is an internal attribute and can not be updated"},
		{"PATCH", b, patch(`{"op":"add","path":"/id","value":1}`), 400, "'/id' is an internal attribute and can not be updated"},
		{"PATCH", b, patch(`{"op":"add","path":"/created_at","value":1}`), 400,
			"'/created_at' is an internal attribute and can not be updated"},
		{"PATCH", b, patch(`{"op":"add","path":"/updated_at","value":1}`), 400,
			"'/updated_at' is an internal attribute and can not be updated"},
		{"PATCH", b, patch(`{"op":"replace","path":"/api_address","value":"x"}`), 400,
			"'/api_address' is an internal attribute and can not be updated"},
		{"PATCH", b, patch(`{"op":"add","path":"/node_addresses/0","value":"x"}`), 400,
			"'/node_addresses/0' is an internal attribute and can not be updated"},
		{"PATCH", b, patch(`{"op":"remove","path":"/baymodel_id"}`), 400, "'/baymodel_id' is a mandatory attribute and can not be removed"},
		{"PATCH", m, patch(`{"op":"remove","path":"/coe"}`), 400, "'/coe' is a mandatory attribute and can not be removed"},
		{"PATCH", c, patch(`{"op":"remove","path":"/bay_uuid"}`), 400, "'/bay_uuid' is a mandatory attribute and can not be removed"},
		{"PATCH", c, patch(`{"op":"remove","path":"/image_id"}`), 400, "'/image_id' is a mandatory attribute and can not be removed"},
		{"PATCH", n, patch(`{"op":"replace","path":"/uuid","value":"x"}`), 400, "'/uuid' is an internal attribute and can not be updated"},
		{"PATCH", b, patch(`{"op":"add","path":"/bogus","value":"x"}`), 400,
			"Adding a new attribute (/bogus) to the root of the resource is not allowed"},
		{"PATCH", c, patch(`{"op":"add","path":"/bogus","value":"x"}`), 400,
			"Adding a new attribute (/bogus) to the root of the resource is not allowed"},
		{"PATCH", b, patch(`{"op":"replace","path":"/bogus","value":"x"}`), 400,
			"Couldn't apply patch 'replace /bogus'. Reason: there is no such attribute"},
		{"PATCH", m, patch(`{"op":"remove","path":"/bogus"}`), 400,
			"Couldn't apply patch 'remove /bogus'. Reason: there is no such attribute"},
		{"PATCH", m, patch(`{"op":"add","path":"/name/x","value":"y"}`), 400,
			"Couldn't apply patch 'add /name/x'. Reason: there is nothing below name at this path"},
		{"PATCH", b, patch(`{"op":"add","path":"/node_count/x","value":"y"}`), 400,
			"Couldn't apply patch 'add /node_count/x'. Reason: there is nothing below node_count at this path"},
		{"PATCH", b, patch(`{"op":"add","path":"/name","value":"foo"},{"op":"add","path":"/discovery_url","value":"http://x"}`), 400,
			"cannot change bay property(ies) name, discovery_url."},
		{"PATCH", b, patch(`{"op":"remove","path":"/name"}`), 400, "cannot change bay property(ies) name."},
		{"PATCH", b, patch(`{"op":"replace","path":"/status","value":"DELETED"}`), 400, "cannot change bay property(ies) status."},
		{"PATCH", b, patch(`{"op":"add","path":"/labels/x","value":"y"}`), 400, "cannot change bay property(ies) labels."},
		{"PATCH", b, patch(`{"op":"replace","path":"/node_count","value":"two"}`), 400,
			field("node_count", "two", `"two" is not a whole number.`)},
		{"PATCH", b, patch(`{"op":"replace","path":"/node_count","value":-1}`), 400,
			field("node_count", "-1", "Value should be greater or equal to 1")},
		{"PATCH", "/v1/bays/used", patch(`{"op":"replace","path":"/node_count","value":2}`), 400,
			`Updating a bay when status is "CREATE_IN_PROGRESS" is not supported`},
		{"PATCH", "/v1/bays/used", patch(`{"op":"replace","path":"/name","value":"x"}`), 400,
			`Updating a bay when status is "CREATE_IN_PROGRESS" is not supported`},
		{"PATCH", c, patch(`{"op":"replace","path":"/status","value":"Running"}`), 400, "cannot change container property(ies) status."},
		{"PATCH", c, patch(`{"op":"replace","path":"/bay_uuid","value":"x"}`), 400, "cannot change container property(ies) bay_uuid."},
		{"PATCH", c, patch(`{"op":"replace","path":"/name","value":5}`), 400,
			field("name", "5", "Wrong type. Expected a string, got a number.")},
		{"PATCH", c, patch(`{"op":"replace","path":"/name","value":"` + long + `"}`), 400, tooLong},
		{"PATCH", c, patch(`{"op":"replace","path":"/image_id","value":"a b"}`), 400,
			`image_id "a b" contains white space: write it as [registry/]name[:tag]`},
		{"PATCH", m, patch(`{"op":"replace","path":"/apiserver_port","value":80}`), 400, field("apiserver_port", "80",
			"Value should be greater or equal to 1024")},
		{"PATCH", m, patch(`{"op":"replace","path":"/coe","value":"mesos"}`), 400, field("coe", "mesos",
			"Value should be one of: 'docker', 'swarm', 'kubernetes'")},
		// What the state forbids.
		{"DELETE", "/v1/baymodels/bm", "", 400, "BayModel bm is referenced by one or multiple bays (such as used): delete them first."},
		{"DELETE", "/v1/containers/run", "", 409, "Container run is Running: stop it first, or delete it with stop or force"},
		{"DELETE", "/v1/containers/" + paused, "", 409,
			"Container " + paused + " is Paused: stop it first, or delete it with stop or force"},
		{"PUT", "/v1/containers/stop/pause", "", 409,
			"Cannot pause container stop: it is Stopped, and only a running container can be paused"},
		{"PUT", "/v1/containers/run/unpause", "", 409, "Cannot unpause container run: it is Running, not paused"},
		{"PUT", "/v1/containers/pause/start", "", 409, "Cannot start container pause: it is paused; unpause it"},
		{"PUT", "/v1/containers/pause/reboot", "", 409, "Cannot reboot container pause: it is paused; unpause it first"},
		{"PUT", "/v1/containers/stop/execute?command=ls", "", 409,
			"Container stop is Stopped: commands can only be executed in one that is Running"},
		{"PUT", "/v1/containers/pause/execute?command=ls", "", 409,
			"Container pause is Paused: commands can only be executed in one that is Running"},
		{"GET", "/v1/containers/stop/logs", "", 409, "Container stop has not been started yet, so it has no logs: start it"},
		{"GET", "/v1/containers/" + waiting + "/logs", "", 409, "Container " + waiting + " has no host yet: "},
		{"PUT", "/v1/containers/" + waiting + "/execute?command=ls", "", 409, "Container " + waiting + " has no host yet: "},
	} {
		what := tt.method + " " + tt.path + " " + cut(tt.body)
		unchanged(t, f.s, what, func() {
			r := f.do(tt.method, tt.path, tt.body)
			if r.status != tt.status {
				t.Errorf("%s: status %d, want %d: %s", what, r.status, tt.status, cut(string(r.body)))
				return
			}
			if strings.HasSuffix(tt.message, ": ") { // the scheduler's reason follows
				r.mentions(tt.message)
				return
			}
			r.says(tt.message)
			hint := structs.Hint("")
			switch {
			case strings.HasPrefix(tt.message, "Multiple "):
				hint = structs.HintAmbiguous
			case strings.HasSuffix(tt.message, " could not be found.") && !strings.HasPrefix(tt.message, "The resource"):
				hint = structs.HintUnknown
			}
			r.hints(hint)
		})
	}

	t.Run("candidates", func(t *testing.T) {
		unchanged(t, f.s, "a container without a bay", func() {
			f.do("POST", "/v1/containers", `{"image":"busybox"}`).is(400).mentions("bay_uuid is missing, and there are 4 bays to choose "+
				"from", "b1 ("+f.bay+")").hints(structs.HintChoose)
		})
	})
	t.Run("allow", func(t *testing.T) {
		if got := f.do("PUT", "/v1/bays", "").is(405).header.Get("Allow"); got != "GET, POST" {
			t.Errorf("Allow %q", got)
		}
	})
	t.Run("code", func(t *testing.T) {
		f.do("GET", "/v1/containers/nope", "").is(404).code("container.not_found")
		f.do("GET", "/v1/nowhere", "").is(404).code("not_found")
		f.do("GET", "/v1/bays/twins", "").is(409).code("bay.conflict")
	})
	t.Run("too large", func(t *testing.T) {
		body := `{"image":"busybox","bay":"b1","command":"` + strings.Repeat("x", structs.MaxBody) + `"}`
		unchanged(t, f.s, "a body over the limit", func() {
			f.do("POST", "/v1/containers", body).is(413).says("The request's body is larger than 1048576 bytes.")
		})
		body = `{"bay":"b1","manifest":"` + strings.Repeat("x", structs.MaxBody) + `"}`
		for _, kind := range []string{"pods", "services", "rcs"} {
			f.do("POST", "/v1/"+kind, body).is(400).says("manifest: is more than 524288 bytes: the request's body is larger than 1048576")
			f.do("PATCH", "/v1/"+kind+"/x", `[{"op":"replace","path":"/manifest","value":"`+strings.Repeat("x", structs.MaxBody)+`"}]`).
				is(400).mentions("manifest: is more than 524288 bytes")
		}
		unchanged(t, f.s, "a body of unknown length over the limit", func() {
			r, err := http.NewRequest("POST", f.s.URL+"/v1/containers", struct{ *bytes.Reader }{bytes.NewReader([]byte(body))})
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = -1
			resp, err := httpClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != 413 {
				t.Errorf("status %d, want 413", resp.StatusCode)
			}
		})
	})
	t.Run("a bad header", func(t *testing.T) {
		unchanged(t, f.s, "a bad X-Magnum-Index", func() {
			f.do("GET", "/v1/bays", "", header{"X-Magnum-Index", "new"}).is(400).says(field("X-Magnum-Index", "new",
				"It is not a whole number."))
			f.do("GET", "/v1/bays", "", header{"X-Auth-Project-Id",
				"other"}).is(403).says(`X-Auth-Project-Id "other" is not the project of the token`)
			f.do("POST", "/v1/bays", "{}", header{"Idempotency-Key",
				strings.Repeat("k", 256)}).is(400).says("Idempotency-Key: 256 characters are more than 255.")
		})
	})
}

// TestSessionsOfLostHostAreRefused checks sessions of a container on a lost host.
func TestSessionsOfLostHostAreRefused(t *testing.T) {
	f := newFixture(t)
	id := f.running("c")
	f.agent.Stop()
	f.s.Lose(t, f.agent.HostID)
	servertest.Eventually(t, "the container is Unknown", func() bool {
		return f.do("GET", "/v1/containers/"+id, "").object()["status"] == "Unknown"
	})
	want := "Container c can't be reached: host host-1 is lost: its agent sent no heartbeat; it is not placed again, because its restart " +
		"policy is no, not always"
	if reason, _ := f.do("GET", "/v1/hosts/"+f.agent.HostID, "").object()["state_reason"].(string); !strings.Contains(reason,
		"its agent sent no heartbeat") || !strings.Contains(reason, "magnum host-fence "+f.agent.HostID) {
		t.Errorf("host-show says %q", reason)
	}
	unchanged(t, f.s, "sessions on a lost host", func() {
		f.do("GET", "/v1/containers/c/logs", "").is(503).says(want)
		f.do("PUT", "/v1/containers/c/execute?command=ls", "").is(503).says(want)
	})
	f.do("GET", "/v1/containers", "").is(200) // lists don't need the host
	f.do("DELETE", "/v1/containers/c?force=true", "").is(204)
	f.do("GET", "/v1/containers/c", "").is(404)
}

// TestObjectsOfOtherProjectsAreHidden checks that an object of another project isn't found.
func TestObjectsOfOtherProjectsAreHidden(t *testing.T) {
	s := servertest.New(t, servertest.WithAuth(tokens))
	s.StartAgent(t, "host-1")
	alice := newCaller(t, s).as("alice")
	mallory := newCaller(t, s).as("mallory")
	bay := alice.do("POST", "/v1/bays?wait=1m", `{"name":"b1"}`).is(201).uuid()
	model := alice.do("POST", "/v1/baymodels", `{"name":"bm","coe":"docker"}`).is(201).uuid()
	node := alice.do("POST", "/v1/nodes", `{}`).is(201).uuid()
	c := alice.do("POST", "/v1/containers?run=true&wait=1m", `{"name":"c1","image":"busybox"}`).is(201).uuid()
	ops := `[{"op":"replace","path":"/name","value":"mine"}]`
	unchanged(t, s, "another project's requests", func() {
		for _, id := range []string{bay, "b1"} {
			mallory.do("GET", "/v1/bays/"+id, "").is(404).says("Bay " + id + " could not be found.")
			mallory.do("DELETE", "/v1/bays/"+id, "").is(404)
			mallory.do("PATCH", "/v1/bays/"+id, `[{"op":"replace","path":"/node_count","value":2}]`).is(404)
			mallory.do("POST", "/v1/containers", `{"image":"busybox","bay_uuid":"`+id+`"}`).is(400).says("Bay " + id +
				" could not be found.")
			mallory.do("GET", "/v1/containers?bay="+id, "").is(400)
		}
		for _, id := range []string{model, "bm"} {
			mallory.do("GET", "/v1/baymodels/"+id, "").is(404)
			mallory.do("DELETE", "/v1/baymodels/"+id, "").is(404)
			mallory.do("POST", "/v1/bays", `{"baymodel_id":"`+id+`"}`).is(400).says("BayModel " + id + " could not be found.")
		}
		mallory.do("PATCH", "/v1/baymodels/"+model, ops).is(404)
		mallory.do("GET", "/v1/nodes/"+node, "").is(404)
		mallory.do("PATCH", "/v1/nodes/"+node, ops).is(404)
		mallory.do("DELETE", "/v1/nodes/"+node, "").is(404)
		for _, id := range []string{c, "c1"} {
			mallory.do("GET", "/v1/containers/"+id, "").is(404)
			mallory.do("GET", "/v1/containers/"+id+"/logs", "").is(404)
			mallory.do("PUT", "/v1/containers/"+id+"/execute?command=ls", "").is(404)
			mallory.do("PATCH", "/v1/containers/"+id, ops).is(404)
			mallory.do("DELETE", "/v1/containers/"+id+"?force=true", "").is(404)
			for _, action := range conductor.Actions {
				mallory.do("PUT", "/v1/containers/"+id+"/"+string(action), "").is(404)
			}
		}
		for _, noun := range []string{"bays", "baymodels", "nodes", "containers"} {
			if got := mallory.do("GET", "/v1/"+noun, "").is(200).items(noun); len(got) != 0 {
				t.Errorf("%s of another project: %v", noun, got)
			}
			if got := mallory.do("GET", "/v1/"+noun+"/detail", "").is(200).items(noun); len(got) != 0 {
				t.Errorf("%s of another project: %v", noun, got)
			}
			id := map[string]string{"bays": bay, "baymodels": model, "nodes": node, "containers": c}[noun]
			mallory.do("GET", "/v1/"+noun+"?marker="+id, "").is(404)
		}
	})
	if got := alice.as("admin").do("GET", "/v1/containers?all_projects=true", "").is(200).names("containers"); got != "c1" {
		t.Errorf("operator sees containers %q", got)
	}
	mallory.do("GET", "/v1/containers?all_projects=true", "").is(403)
	mallory.do("GET", "/v1/containers/"+c+"?all_projects=true", "").is(403)
	mallory.do("DELETE", "/v1/containers/"+c+"?all_projects=true", "").is(403)
	mallory.do("POST", "/v1/bays", `{"shared":true}`).is(403)
	mallory.do("GET", "/v1/containers/"+c+"?all_projects=False", "").is(404)

	shared := alice.as("admin").do("POST", "/v1/bays", `{"name":"all","shared":true}`).is(201).uuid()
	if got := mallory.do("GET", "/v1/bays", "").is(200).names("bays"); got != "all" {
		t.Errorf("guests see bays %q", got)
	}
	mallory.do("GET", "/v1/bays/all", "").is(200)
	mallory.do("DELETE", "/v1/bays/"+shared, "").is(403).says("bay all is shared with your project: only its operator can change it")
	mallory.do("POST", "/v1/containers", `{"image":"busybox"}`).is(201)
}

// TestStalledBodyChangesNothing checks that a request whose body never ends isn't answered
// and changes nothing.
func TestStalledBodyChangesNothing(t *testing.T) {
	f := newFixture(t)
	unchanged(t, f.s, "half a body", func() {
		conn, err := net.Dial("tcp", strings.TrimPrefix(f.s.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /v1/containers HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"image\":")
		conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, _ := conn.Read(make([]byte, 1)); n != 0 {
			t.Errorf("answered half a body")
		}
		conn.Close()
		f.do("GET", "/v1/containers", "").is(200)
	})
}
