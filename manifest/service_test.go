package manifest

import (
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

func serviceText(spec string) string {
	return "apiVersion: v1\nkind: Service\nmetadata: {name: web, labels: {a: b}}\nspec: {" + spec + "}\n"
}

func TestParseService(t *testing.T) {
	selector := map[string]string{"app": "web"}
	for spec, want := range map[string]structs.ServiceSpec{
		"ports: [{port: 80}]": {Ports: []structs.ServicePort{{Port: 80, TargetPort: 80, Protocol: "tcp"}}},
		"ports: [{name: a, port: 80, targetPort: http, protocol: UDP}, {name: b, port: 80, targetPort: 8080, nodePort: 30080}], " +
			"type: NodePort": {
			NodePorts: true, Ports: []structs.ServicePort{{Name: "a", Port: 80, TargetName: "http", Protocol: "udp"},
				{Name: "b", Port: 80, TargetPort: 8080, NodePort: 30080, Protocol: "tcp"}}},
		"clusterIP: None":                     {Headless: true},
		"clusterIP: None, clusterIPs: [None]": {Headless: true},
		"ports: [{port: 80}], sessionAffinity: ClientIP": {ClientIPTimeout: 10800,
			Ports: []structs.ServicePort{{Port: 80, TargetPort: 80, Protocol: "tcp"}}},
		"ports: [{port: 80}], sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}": {ClientIPTimeout: 60,
			Ports: []structs.ServicePort{{Port: 80, TargetPort: 80, Protocol: "tcp"}}},
		"ports: [{port: 80}], ipFamilies: [IPv4], ipFamilyPolicy: SingleStack, internalTrafficPolicy: Cluster, type: ClusterIP, " +
			"sessionAffinity: None": {Ports: []structs.ServicePort{{Port: 80, TargetPort: 80, Protocol: "tcp"}}},
	} {
		service, err := ParseService(serviceText("selector: {app: web}, " + spec))
		if err != nil {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		want.Selector = selector
		if got, want := asJSON(t, service.Spec), asJSON(t, want); got != want || service.Name != "web" || service.Labels["a"] != "b" {
			t.Errorf("%s: %s is %s\nwant %s", spec, service.Name, got, want)
		}
	}
	// What kubectl prints has an address.
	text := strings.Replace(serviceText("selector: {app: web}, ports: [{port: 80}], clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7]"),
		"{name: web", "{uid: 5f9f2c0e-5f43-4c0b-9d3c-7a1f6f0f7a10, name: web", 1)
	if service, err := ParseService(text + "status: {loadBalancer: {}}\n"); err != nil || service.Spec.Headless {
		t.Errorf("what kubectl prints: %v, %v", service, err)
	}
}

func TestServiceRefusals(t *testing.T) {
	for _, c := range []struct{ spec, path, want string }{
		{"selector: null", "selector", "is missing"},
		{"selector: {a: 'b c'}", "selector.a", "is not a label's value"},
		{"ports: []", "ports", "is empty"},
		{"ports: [{port: 0}]", "ports[0].port", "0 not in 1..65535"},
		{"ports: [{port: 80, protocol: SCTP}]", "ports[0].protocol", "must be TCP or UDP"},
		{"ports: [{port: 80, nodePort: 30080}]", "ports[0].nodePort", "needs type: NodePort"},
		{"type: NodePort, ports: [{port: 80, nodePort: 65536}]", "ports[0].nodePort", "65536 not in"},
		{"ports: [{port: 80, targetPort: 65536}]", "ports[0].targetPort", "65536 not in"},
		{"ports: [{port: 80, targetPort: ''}]", "ports[0].targetPort", "is neither"},
		{"ports: [{port: 80, targetPort: '80'}]", "ports[0].targetPort", "is neither"},
		{"ports: [{port: 80}, {name: b, port: 81}]", "ports[0].name", "is missing"},
		{"ports: [{name: A, port: 80}]", "ports[0].name", "is not a DNS label"},
		{"ports: [{name: a, port: 80}, {name: a, port: 81}]", "ports[1].name", "another port"},
		{"ports: [{name: a, port: 80}, {name: b, port: 80}]", "ports[1].port", "80/tcp is given twice"},
		{"type: NodePort, ports: [{name: a, port: 80, nodePort: 3}, {name: b, port: 81, nodePort: 3}]", "ports[1].nodePort", "given twice"},
		{"type: LoadBalancer", "type", "must be ClusterIP or NodePort"},
		{"type: ExternalName, externalName: a.b", "type", "must be"},
		{"externalName: a.b", "externalName", "hostAliases"},
		{"clusterIP: 10.0.0.1", "clusterIP", "must be None"},
		{"clusterIPs: [None, 10.0.0.1]", "clusterIPs[1]", "must be None"},
		{"clusterIP: None, type: NodePort", "type", "leave clusterIP out"},
		{"externalIPs: [1.2.3.4]", "externalIPs", "NodePort"},
		{"portalIP: 10.0.0.1", "portalIP", "is not a field"},
		{"sessionAffinity: Cookie", "sessionAffinity", "must be None or ClientIP"},
		{"sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}", "sessionAffinityConfig", "needs sessionAffinity"},
		{"sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}",
			"sessionAffinityConfig.clientIP.timeoutSeconds", "0 not in"},
		{"externalTrafficPolicy: Local", "externalTrafficPolicy", "must be Cluster"},
		{"ipFamilies: [IPv6]", "ipFamilies[0]", "must be IPv4"},
		{"publishNotReadyAddresses: true", "publishNotReadyAddresses", "is not supported"},
	} {
		spec := c.spec
		for _, f := range []string{"selector: {a: b}", "ports: [{port: 80}]"} {
			if name, _, _ := strings.Cut(f, " "); !strings.Contains(spec, name) {
				spec += ", " + f
			}
		}
		_, err := ParseService(serviceText(spec))
		refuses(t, err, "spec."+c.path, c.want)
	}
	_, err := ParseService(strings.Replace(serviceText("selector: {a: b}, ports: [{port: 80}]"), "name: web", "name: 1web", 1))
	refuses(t, err, "metadata.name", "begin with a letter")
	_, err = ParseService(oneText(""))
	refuses(t, err, "kind", "pod-create")
}

func rcText(spec, template string) string {
	return "apiVersion: v1\nkind: ReplicationController\nmetadata: {name: web}\nspec: {" + spec +
		"template: {metadata: {creationTimestamp: null, labels: {app: web, tier: front}, annotations: {a: b}}, " +
		"spec: {containers: [{name: web, image: 'busybox:1.36'}]" + template + "}}}\n"
}

func TestParseRC(t *testing.T) {
	rc, err := ParseRC(rcText("", ""))
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"app": "web", "tier": "front"}
	want := structs.RCSpec{Replicas: 1, Selector: labels, Labels: labels, Annotations: map[string]string{"a": "b"},
		Template: mustParse(t, oneText("")).Spec}
	want.Template.Hostname = "" // each pod's own
	if got, want := asJSON(t, rc.Spec), asJSON(t, want); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	rc, err = ParseRC(rcText("replicas: 0, selector: {app: web}, ", ", hostname: one"))
	if err != nil || rc.Spec.Replicas != 0 || len(rc.Spec.Selector) != 1 || rc.Spec.Template.Hostname != "one" {
		t.Errorf("%+v, %v", rc, err)
	}
}

func TestRCRefusals(t *testing.T) {
	for _, c := range []struct{ spec, template, path, want string }{
		{"replicas: -1, ", "", "replicas", "-1 not in 0..1000"},
		{"replicas: 1001, ", "", "replicas", "not in"},
		{"replicas: '2', ", "", "replicas", "must be a whole number"},
		{"minReadySeconds: 5, ", "", "minReadySeconds", "readinessProbe"},
		{"selector: {app: db}, ", "", "selector", "app=db"},
		{"selector: {matchLabels: {app: web}}, ", "", "selector.matchLabels", "must be text"},
		{"strategy: {}, ", "", "strategy", "is not a field"},
		{"", ", restartPolicy: Never", "template.spec.restartPolicy", "must be Always"},
		{"", ", activeDeadlineSeconds: 5", "template.spec.activeDeadlineSeconds", "leave it out"},
		{"", ", hostNetwork: true", "template.spec.hostNetwork", "is not supported"},
		{"", ", nodeName: a", "template.spec.nodeName", "nodeSelector"},
		{"", ", volumes: [{name: A}]", "template.spec.volumes[0].name", "is not a DNS label"},
		{"", ", initContainers: [{name: web, image: busybox}]", "template.spec.containers[0].name",
			"is the name of spec.template.spec.initContainers[0] too"},
	} {
		_, err := ParseRC(rcText(c.spec, c.template))
		refuses(t, err, "spec."+c.path, c.want)
	}
	_, err := ParseRC("apiVersion: v1\nkind: ReplicationController\nmetadata: {name: web}\nspec: {replicas: 1}\n")
	refuses(t, err, "spec.template", "is missing")
	_, err = ParseRC(strings.Replace(rcText("", ""), "labels: {app: web, tier: front}, ", "", 1))
	refuses(t, err, "spec.template.metadata.labels", "is empty")
	_, err = ParseRC(strings.Replace(rcText("", ""), "app: web", "app: 'a b'", 1))
	refuses(t, err, "spec.template.metadata.labels.app", "is not a label's value")
}

func TestSplit(t *testing.T) {
	pod, service := oneText(""), serviceText("selector: {a: b}, ports: [{port: 80}]")
	asItem := `{"kind":"Pod","metadata":{"name":"b"}}`
	for _, c := range []struct {
		name, text string
		want       []Document
	}{
		{"one", pod, []Document{{"Pod", "web", pod, 1}}},
		{"two", pod + "---\n" + service, []Document{{"Pod", "web", pod, 1}, {"Service", "web", "---\n" + service, 5}}},
		{"empty ones", "# a file\n---\n" + pod + "...\n---\n# nothing\n---\n", []Document{{"Pod", "web", "---\n" + pod, 2}}},
		{"no name", "kind: Deployment\n", []Document{{"Deployment", "", "kind: Deployment\n", 1}}},
		{"no line feed", "kind: Pod", []Document{{"Pod", "", "kind: Pod", 1}}},
		{"after the marker", "--- {kind: Pod}\n--- {kind: Service}\n", []Document{{"Pod", "", "--- {kind: Pod}\n", 1},
			{"Service", "", "--- {kind: Service}\n", 2}}},
		{"JSON", " " + asItem + "\n" + asItem, []Document{{"Pod", "b", asItem, 1}, {"Pod", "b", asItem, 2}}},
		{"JSON in YAML", asItem + "\n---\n" + asItem, []Document{{"Pod", "b", asItem + "\n", 1}, {"Pod", "b", "---\n" + asItem, 2}}},
		{"list", `{"kind":"List","items":[` + asItem + "]}", []Document{{"Pod", "b", asItem, 1}}},
		{"marks in a text", "kind: Pod\na: |\n  ---\n  b\n", []Document{{"Pod", "", "kind: Pod\na: |\n  ---\n  b\n", 1}}},
		{"no markers", "kind: Pod\nb: '---'\n----: x\n", []Document{{"Pod", "", "kind: Pod\nb: '---'\n----: x\n", 1}}},
		{"CRLF", "kind: A\r\n---\r\nkind: B\r\n", []Document{{"A", "", "kind: A\r\n", 1}, {"B", "", "---\r\nkind: B\r\n", 2}}},
		{"end markers", "kind: A\n...\n# c\nkind: B\n... # end\n", []Document{{"A", "", "kind: A\n", 1}, {"B", "", "# c\nkind: B\n", 3}}},
		{"directives", "%YAML 1.1\n---\nkind: A\n...\n%YAML 1.1\n# c\n---\nkind: B\n---\nkind: C\n",
			[]Document{{"A", "", "%YAML 1.1\n---\nkind: A\n", 1}, {"B", "", "%YAML 1.1\n# c\n---\nkind: B\n", 5},
				{"C", "", "---\nkind: C\n", 9}}},
		{"a BOM", "\ufeff# c\n---\nkind: A\n", []Document{{"A", "", "---\nkind: A\n", 2}}},
	} {
		got, err := Split(c.text)
		if err != nil || asJSON(t, got) != asJSON(t, c.want) {
			t.Errorf("%s: %v, %s\nwant %s", c.name, err, asJSON(t, got), asJSON(t, c.want))
		}
		for _, d := range got {
			if d.Text == pod || d.Text == "---\n"+pod {
				mustParse(t, d.Text)
			}
		}
	}
	for _, c := range []struct{ text, path, want string }{
		{"", "manifest", "is empty"},
		{"---\n# a\n", "manifest", "is empty"},
		{`{"kind":"List","items":[]}`, "manifest", "is empty"},
		{"a: b\n", "kind", "is missing"},
		{"- a\n", "manifest", "is not an object"},
		{pod + "---\na: &a b\n", "the document that begins in line 5", "a: line 2: anchors"},
		{`{"kind":"List","items":[{"a":1}]}`, "items[0]", "kind: is missing"},
		{strings.Repeat("a", 1<<20), "manifest", "bytes are more than"},
	} {
		_, err := Split(c.text)
		refuses(t, err, c.path, c.want)
	}
}

// FuzzSplitYAML checks that no content gets lost, whatever the text is.
func FuzzSplitYAML(f *testing.F) {
	for _, seed := range []string{"a: 1\n---\nb: 2", "%YAML 1.1\n---\n...\n", "{}{}\n", "---\r\n...x\n--- y", "\ufeff#\n\n%", "...\na"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parts := splitYAML(text)
		var kept strings.Builder
		for i, p := range parts {
			if !strings.Contains(text, p.text) || p.line < 1 || i > 0 && p.line <= parts[i-1].line {
				t.Errorf("part %d is %q in line %d", i, p.text, p.line)
			}
			if lines := strings.SplitAfter(text, "\n"); !strings.HasPrefix(p.text, lines[p.line-1]) {
				t.Errorf("part %d is %q, and doesn't begin in line %d", i, p.text, p.line)
			}
			kept.WriteString(p.text)
		}
		for line := range strings.Lines(text) {
			if hasContent(line) && !strings.HasPrefix(line, "...") && !strings.Contains(kept.String(), line) {
				t.Errorf("line %q is in none of %#v", line, parts)
			}
		}
	})
}
