"""A client of Neutron's API, for agent-alive and demo."""
import json
import os
import urllib.error
import urllib.parse
import urllib.request


class Refused(Exception):
    def __init__(self, what, code, text):
        super().__init__(f"{what}: {code} {text}")
        self.code = code


def call(method, url, body=None, token=None):
    """returns the headers and the object of the answer"""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["X-Auth-Token"] = token
    request = urllib.request.Request(url, method=method, headers=headers, data=json.dumps(body).encode() if body else None)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            content = answer.read()
            return answer.headers, json.loads(content) if content else None
    except urllib.error.HTTPError as e:
        raise Refused(f"{method} {url}", e.code, e.read().decode()) from None


class Client:
    """A user, who is one of the clouds in the clouds.yaml of keystone-up."""

    def __init__(self, keystone, user, url):
        with open(os.path.join(keystone, "clouds.yaml")) as f:
            auth = json.load(f)["clouds"][user]["auth"]
        domain = {"id": "default"}
        headers, answer = call("POST", auth["auth_url"] + "/auth/tokens", {"auth": {
            "identity": {"methods": ["password"], "password": {"user": {
                "name": auth["username"], "domain": domain, "password": auth["password"]}}},
            "scope": {"project": {"name": auth["project_name"], "domain": domain}}}})
        self.token = headers["X-Subject-Token"]
        self.project = answer["token"]["project"]["id"]
        self.url = url + "/v2.0/"

    def get(self, path, **query):
        """returns the object, or the first page of the list of objects that match the query"""
        if query:
            path += "?" + urllib.parse.urlencode(query)
        answer = call("GET", self.url + path, token=self.token)[1]
        return next(value for key, value in answer.items() if not key.endswith("_links"))

    def create(self, kind, **attributes):
        return call("POST", f"{self.url}{kind.replace('_', '-')}s", {kind: attributes}, self.token)[1][kind]

    def update(self, kind, identity, **attributes):
        return call("PUT", f"{self.url}{kind.replace('_', '-')}s/{identity}", {kind: attributes}, self.token)[1][kind]

    def delete(self, kind, identity):
        call("DELETE", f"{self.url}{kind.replace('_', '-')}s/{identity}", token=self.token)
