//! Artificial histories with requests that violate an invariant.

use serde_json::json;

use super::deletes_of_unstamped;
use super::tests::{Story, part};
use crate::audit::AuditLog;
use crate::history::{Kind, Verb};

/// I46: a delete of the operator must have an object with a stamp for each time.
#[test]
fn a_delete_of_an_object_without_a_stamp_is_noticed() {
    let line = |number: u32| {
        json!({"level": "Metadata", "auditID": number.to_string(), "stage": "ResponseComplete", "verb": "delete",
            "requestURI": "/", "user": {"username": "u"}, "userAgent": "e6-operator",
            "objectRef": {"apiGroup": "apps", "resource": "deployments", "namespace": "n", "name": "m-storage-blue"},
            "responseStatus": {"code": 200}, "requestReceivedTimestamp": "2026-09-21T14:13:20.000000Z"})
        .to_string()
            + "\n"
    };
    let audit = |deletes: u32| AuditLog::parse(&(0..deletes).map(line).collect::<String>()).unwrap();
    let mut story = Story::default();
    let object = |uid: &str| {
        let mut object = part("storage", "blue", "v1");
        object["metadata"]["uid"] = json!(uid);
        object
    };
    story.tell(Kind::Deployment, "m-storage-blue", Verb::Added, object("one"));
    story.tell(Kind::Deployment, "m-storage-blue", Verb::Deleted, object("one"));
    assert_eq!(deletes_of_unstamped(&story.history, &audit(1)), []);
    let mut bare = object("two");
    bare["metadata"].as_object_mut().unwrap().remove("annotations");
    story.tell(Kind::Deployment, "m-storage-blue", Verb::Added, bare.clone());
    story.tell(Kind::Deployment, "m-storage-blue", Verb::Deleted, bare);
    assert_eq!(deletes_of_unstamped(&story.history, &audit(1)), [], "somebody else deleted it");
    let found = deletes_of_unstamped(&story.history, &audit(2));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].text, "2 deletes of Deployment m-storage-blue, of which 1 had a stamp");
}
