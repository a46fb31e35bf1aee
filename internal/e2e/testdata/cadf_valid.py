"""Reads lines of an audit log from its input, makes pycadf's objects of them, and fails
unless each is valid. Warnings about IDs that are no UUIDs are not printed: projects and
users of local tokens have any IDs."""
import json
import sys
import warnings

from pycadf import attachment, event, host, reason, resource

warnings.simplefilter('ignore')


def to_resource(of):
    made = resource.Resource(id=of['id'], typeURI=of['typeURI'], name=of.get('name'),
                             host=host.Host(**of['host']) if 'host' in of else None)
    assert made.is_valid(), of
    return made


count = 0
for line in sys.stdin:
    count += 1
    e = json.loads(line)
    made = event.Event(
        eventType=e['eventType'], id=e['id'], eventTime=e['eventTime'], action=e['action'], outcome=e['outcome'],
        initiator=to_resource(e['initiator']), target=to_resource(e['target']), observer=to_resource(e['observer']),
        reason=reason.Reason(**e['reason']))
    for a in e['attachments']:
        made.add_attachment(attachment.Attachment(**a))
    assert made.is_valid(), line
    assert made.typeURI == e['typeURI'], line
    again = made.as_dict()
    for key in e:
        assert again[key] == e[key], (key, again[key], e[key])
print(count)
