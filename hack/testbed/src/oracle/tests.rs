//! Histories made by hand: a good one, in which nothing is found, and one for each rule that must be found.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;

/// A story in the making: every event gets the next resourceVersion, a second after the one before.
#[derive(Default)]
struct Story {
    history: History,
    count: u32,
}

impl Story {
    fn tell(&mut self, kind: Kind, name: &str, verb: Verb, object: Value) -> &mut Self {
        self.count += 1;
        self.history.insert(Entry {
            resource_version: u64::from(self.count),
            kind,
            namespace: "n".into(),
            name: name.into(),
            verb,
            object,
            at: Duration::from_secs(u64::from(self.count)),
            listed: false,
        });
        self
    }

    fn owner(&mut self, step: &str, active: &str, epoch: i64) -> &mut Self {
        let verb = if self.history.live(Kind::MetadataServices, "m").is_some() {
            Verb::Modified
        } else {
            Verb::Added
        };
        let records = match active {
            "blue" => json!([{"version": "v1", "status": "Active"}]),
            "green" => {
                json!([{"version": "v1", "status": "Superseded"}, {"version": "v2", "status": "Active"}])
            }
            _ => json!([{"version": "v1", "status": "Pending"}]),
        };
        let version = if active == "green" { "v2" } else { "v1" };
        let object = json!({
            "metadata": {"uid": "u", "generation": 1},
            "spec": {"rollout": {"switchDwellSeconds": 1, "cleanupDelaySeconds": 2}},
            "status": {
                "observedGeneration": 1, "activeStrategy": active, "activeReleaseVersion": version,
                "releaseHistory": records, "rollout": {"step": step, "epoch": epoch},
            },
        });
        self.tell(Kind::MetadataServices, "m", verb, object)
    }

    fn front(&mut self, component: &str, colour: &str, epoch: i64) -> &mut Self {
        let name = format!("m-{component}");
        let verb =
            if self.history.live(Kind::Service, &name).is_some() { Verb::Modified } else { Verb::Added };
        let mut object = part(component, "", "");
        object["metadata"]["annotations"] = match colour {
            "none" => json!({EPOCH: epoch.to_string()}),
            "blue" => json!({EPOCH: epoch.to_string(), RELEASE_VERSION: "v1"}),
            _ => json!({EPOCH: epoch.to_string(), RELEASE_VERSION: "v2"}),
        };
        object["spec"] = json!({
            "clusterIP": "10.0.0.1", "selector": {"app": "m", "component": component, "strategy": colour},
        });
        self.tell(Kind::Service, &name, verb, object)
    }

    fn fronts(&mut self, colour: &str, epoch: i64) -> &mut Self {
        self.front("storage", colour, epoch).front("schema", colour, epoch)
    }

    fn colour(&mut self, colour: &str, verb: Verb) -> &mut Self {
        for component in COMPONENTS {
            let version = if colour == "blue" { "v1" } else { "v2" };
            let object = part(component, colour, version);
            self.tell(Kind::ConfigMap, &format!("m-{component}-config-{colour}"), verb, object.clone());
            self.tell(Kind::Service, &format!("m-{component}-{colour}"), verb, object.clone());
            self.tell(Kind::Deployment, &format!("m-{component}-{colour}"), verb, object);
        }
        self
    }

    fn endpoints(&mut self, colours: &[&str]) -> &mut Self {
        for component in COMPONENTS {
            let endpoint = |colour: &&str| {
                json!({
                    "conditions": {"ready": true}, "targetRef": {"name": format!("m-{component}-{colour}-x-y")},
                })
            };
            let object = json!({
                "metadata": {"labels": {"kubernetes.io/service-name": format!("m-{component}")}},
                "endpoints": colours.iter().map(endpoint).collect::<Vec<_>>(),
            });
            self.tell(Kind::EndpointSlice, &format!("m-{component}-slice"), Verb::Modified, object);
        }
        self
    }

    /// What there is when the first release serves.
    fn served() -> Self {
        let mut story = Self::default();
        story.owner("Deploying", "", 1).fronts("none", 0).colour("blue", Verb::Added);
        story.owner("Switching", "", 2).fronts("blue", 2).endpoints(&["blue"]).owner("Stable", "blue", 2);
        story
    }

    /// ... and when the second release has traffic, while both colours live.
    fn switched() -> Self {
        let mut story = Self::served();
        story.owner("Deploying", "blue", 3).colour("green", Verb::Added).owner("Switching", "blue", 4);
        story.fronts("green", 4).endpoints(&["green"]).owner("Grace", "green", 4);
        story
    }

    /// The one rule that finds something, by the beginning of what it says.
    fn finds(&self, rule: &str) {
        let found = check(&self.history, "m");
        assert!(found.iter().any(|text| text.starts_with(rule)), "{rule} in {found:#?}");
    }
}

fn part(component: &str, colour: &str, version: &str) -> Value {
    json!({
        "metadata": {
            "uid": format!("{component}-{colour}"),
            "labels": {
                "app": "m", "component": component, "strategy": colour, "app.kubernetes.io/managed-by": "e6-operator",
            },
            "annotations": {RELEASE_VERSION: version, EPOCH: "1"},
            "ownerReferences": [{"uid": "u", "controller": true}],
        },
        "data": {"tag": version},
        "spec": {"template": {"tag": version}},
    })
}

#[test]
fn a_good_history_has_nothing_to_find() {
    let mut story = Story::switched();
    story.owner("Prune", "green", 4).colour("blue", Verb::Deleted).owner("Stable", "green", 4);
    assert_eq!(check(&story.history, "m"), Vec::<String>::new());
    assert_eq!(colours_settled(&story.history, "m"), Vec::<String>::new());
}

#[test]
fn a_front_must_select_what_is_there() {
    let mut story = Story::served();
    story.front("storage", "green", 3).finds("I1: m-storage selects green, which has no Deployment");
    let mut story = Story::served();
    let mut dying = part("schema", "blue", "v1");
    dying["metadata"]["deletionTimestamp"] = json!("now");
    story
        .tell(Kind::Deployment, "m-schema-blue", Verb::Modified, dying)
        .finds("I1: m-schema selects blue, whose");
    let mut story = Story::served();
    let mut other = part("schema", "blue", "v1");
    other["metadata"]["annotations"][RELEASE_VERSION] = json!("v9");
    story
        .tell(Kind::Deployment, "m-schema-blue", Verb::Modified, other)
        .finds("I1: m-schema says v1 on blue");
}

#[test]
fn nothing_changes_while_the_fronts_are_apart() {
    let mut story = Story::served();
    story.owner("Deploying", "blue", 3).colour("green", Verb::Added).owner("Switching", "blue", 4);
    story.front("storage", "green", 4);
    assert!(check(&story.history, "m").is_empty());
    story.tell(Kind::ConfigMap, "m-extra", Verb::Added, part("storage", "green", "v2"));
    story.finds("I4: ConfigMap m-extra is created");
}

#[test]
fn a_front_moves_by_decisions_only_and_keeps_its_identity() {
    let mut story = Story::switched();
    story.front("storage", "blue", 4).finds("I5: m-storage goes from");
    let mut story = Story::switched();
    story.front("storage", "blue", 3).finds("I13: the epoch of m-storage falls");
    let mut story = Story::served();
    let mut moved = story.history.live(Kind::Service, "m-storage").unwrap().object.clone();
    moved["spec"]["clusterIP"] = json!("10.0.0.2");
    story.tell(Kind::Service, "m-storage", Verb::Modified, moved).finds("I8");
}

#[test]
fn what_is_deleted_is_deleted_in_prune_and_after_proof() {
    let mut story = Story::switched();
    story.colour("blue", Verb::Deleted).finds("I9: ConfigMap m-storage-config-blue is deleted in Grace");
    let mut story = Story::switched();
    story
        .owner("Prune", "green", 4)
        .colour("green", Verb::Deleted)
        .finds("I9: ConfigMap m-storage-config-green of");
    let mut story = Story::switched();
    story
        .owner("Prune", "green", 5)
        .colour("blue", Verb::Deleted)
        .finds("I9: ConfigMap m-storage-config-blue is");
    let mut story = Story::switched();
    story.endpoints(&["green", "blue"]).owner("Prune", "green", 4).colour("blue", Verb::Deleted);
    story.finds("I9: m-storage-blue is deleted while storage has endpoints");
    let mut story = Story::served();
    story.owner("Deploying", "blue", 3).colour("green", Verb::Added).owner("Switching", "blue", 4);
    story.endpoints(&["green"]).owner("Grace", "green", 4).owner("Prune", "green", 4).fronts("green", 4);
    story.tell(Kind::Deployment, "m-storage-blue", Verb::Deleted, part("storage", "blue", "v1"));
    story.finds("I9: m-storage-blue is deleted 1.0 s after");
}

#[test]
fn the_machine_and_its_history_keep_their_rules() {
    let mut story = Story::served();
    story.owner("Grace", "blue", 2).finds("I12: the step goes from Stable to Grace");
    let mut story = Story::served();
    story.owner("Deploying", "blue", 1).finds("I13: the epoch falls from 2 to 1");
    let mut story = Story::switched();
    story.owner("Prune", "green", 4).owner("Stable", "blue", 4).finds("I16");
    let mut story = Story::served();
    let mut twice = story.history.live(Kind::MetadataServices, "m").unwrap().object.clone();
    twice["status"]["releaseHistory"] =
        json!([{"version": "v1", "status": "Active"}, {"version": "v1", "status": "Active"}]);
    story.tell(Kind::MetadataServices, "m", Verb::Modified, twice).finds("I14");
    story.finds("I15: 2 records are Active");
}

#[test]
fn objects_have_an_owner_and_do_not_change() {
    let mut story = Story::served();
    let mut orphan = part("storage", "green", "v2");
    orphan["metadata"]["ownerReferences"] = json!([]);
    story.tell(Kind::ConfigMap, "m-storage-config-green", Verb::Added, orphan).finds("I32");
    let mut story = Story::served();
    let mut edited = part("storage", "blue", "v1");
    edited["spec"]["template"]["tag"] = json!("v3");
    story.tell(Kind::Deployment, "m-storage-blue", Verb::Modified, edited).finds("I11");
    let story = Story::switched();
    let left = colours_settled(&story.history, "m");
    assert!(left.iter().any(|text| text == "I33: Deployment m-schema-blue is left over"), "{left:#?}");
}
