//! The five scenes as data: commands as a user types them, and the states that the demo expects to observe.

// A path to a method of `Seen` is not a function for every lifetime, as `Expect` needs it.
#![allow(clippy::redundant_closure_for_method_calls)]

use super::observe::{NOW, Seen, endpoints_text, tags};

/// The namespace of the upgrade guide.
pub const NAMESPACE: &str = "autoscalingv2";

/// An expected observation. A release is named by the tag of its storage image.
#[derive(Debug, Clone, Copy)]
pub enum Expect {
    /// Title, expected text (alternatives: ` or `), observed text.
    Same(&'static str, &'static str, fn(&Seen<'_>) -> String),
    /// A whole switch from one color to another.
    Switch(&'static str, &'static str),
    /// The last Event of a type and reason names a release.
    Event(&'static str, &'static str),
}

/// A command of a user, with the states before and after it.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    /// The heading; empty if the scene continues the one before.
    pub title: &'static str,
    /// A paragraph before the command; empty for none.
    pub text: &'static str,
    /// The name in the summary.
    pub name: &'static str,
    /// The command, run by bash.
    pub command: &'static str,
    /// Kills the operator in the step Deploying, and starts it again.
    pub kill: bool,
    /// The end of the scene: `status.phase`, the active color, and the image tags of the spec.
    pub end: [&'static str; 3],
    /// Expected observations at the end.
    pub expect: &'static [Expect],
    /// Texts and commands after the checks.
    pub show: &'static [(&'static str, &'static str)],
}

const APPLY: &str = "kubectl apply -n autoscalingv2 -f - <<EOF
apiVersion: e6data.io/v1alpha1
kind: MetadataServices
metadata:
  name: sample1
spec:
  storage:
    imageTag: 1.0.437-old
  schema:
    imageTag: 1.0.547-old
  rollout:                      # only for the demo; the defaults:
    gracePeriodSeconds: 4       # 120
    switchDwellSeconds: 2       # 10
    cleanupDelaySeconds: 4      # 30
    deployTimeoutSeconds: 60    # 600
    autoRollback:
      failureThresholdSeconds: 4  # 120
EOF";

/// The patch of the guide, to the letter.
macro_rules! patch {
    ($storage:literal, $schema:literal) => {
        concat!(
            "kubectl patch metadataservices sample1 -n autoscalingv2 --type=merge -p '\n{\n\"spec\": {\n",
            "\"storage\": {\"imageTag\": \"",
            $storage,
            "\"},\n",
            "\"schema\": {\"imageTag\": \"",
            $schema,
            "\"}\n}\n}'"
        )
    };
}

/// The line of the guide, to the letter.
const ROLL_BACK: &str = r"kubectl annotate metadataservices sample1 -n autoscalingv2 \
e6data.io/rollback-to=$(kubectl get metadataservices sample1 -n autoscalingv2 \
-o jsonpath='{.status.releaseHistory[-2].version}')";

const SHOW: (&str, &str) = ("", "kubectl get metadataservices -n autoscalingv2");

const ASK: (&str, &str) = (
    "",
    "kubectl get metadataservices sample1 -n autoscalingv2 \\\n\
     -o jsonpath='{.status.conditions[?(@.type==\"SpecApplied\")].message}'",
);

const HISTORY: &str = r#"kubectl get metadataservices sample1 -n autoscalingv2 -o go-template='{{
$line := "%-24v  %-10v  %-5v  %-13v  %-13v  %-8v  %v\n"}}{{
printf $line "VERSION" "STATUS" "COLOR" "STORAGE" "SCHEMA" "TRIGGER" "REASON"}}{{
range .status.releaseHistory}}{{
printf $line .version .status .strategy .storageTag .schemaTag .trigger (or .reason "")}}{{end}}'"#;

use Expect::{Event, Same, Switch};

const GOOD: Expect =
    Same("conditions", "Ready=True Serving, SpecApplied=True Applied, Stalled=False None", |seen| {
        seen.conditions()
    });
const STORAGE_STAYS: Expect =
    Same("Service sample1-storage sends traffic to", "green 1.0.500-new", |seen| seen.traffic("storage"));
const SCHEMA_STAYS: Expect =
    Same("Service sample1-schema sends traffic to", "green 1.0.500-new", |seen| seen.traffic("schema"));
const PODS_STAY: Expect = Same("pods that serve", "the same 2", |seen| seen.same_pods("green"));
const fn annotation(changes: &'static str) -> Expect {
    Same("annotation", changes, |seen| seen.annotation())
}

const SWITCHED: &str = "2 blue configmap deleted, 2 blue deployment deleted, 2 blue service deleted, \
    2 green configmap added, 2 green deployment added, 2 green service added";

const PLAIN: Scene =
    Scene { title: "", text: "", name: "", command: "", kill: false, end: [""; 3], expect: &[], show: &[] };

const fn history(records: &'static str) -> Expect {
    Same("history", records, |seen| seen.records())
}

/// The scenes, in order.
pub const SCENES: [Scene; 6] = [
    Scene {
        title: "1. The first release",
        text: "A minimal MetadataServices: two image tags. Its rollout timers are short here, so that all of the \
               demo takes a minute or two.",
        name: "1 create",
        command: APPLY,
        end: ["Stable", "blue", "1.0.437-old 1.0.547-old"],
        expect: &[
            Same("deploymentPhase", "Deploying -> Switching -> Stable", |seen| seen.phases()),
            Same("Service sample1-storage selects", "none -> blue 1.0.437-old", |seen| {
                seen.traffic("storage")
            }),
            Same("endpoints of sample1-storage", "1 blue", |seen| {
                endpoints_text(seen.history, "storage", NOW)
            }),
            Same("Service sample1-schema selects", "none -> blue 1.0.437-old", |seen| seen.traffic("schema")),
            Same("endpoints of sample1-schema", "1 blue", |seen| endpoints_text(seen.history, "schema", NOW)),
            GOOD,
            history("1.0.437-old Active"),
        ],
        show: &[SHOW],
        ..PLAIN
    },
    Scene {
        title: "2. An upgrade: both components together, by the guide's own patch",
        name: "2 upgrade",
        command: patch!("1.0.500-new", "1.0.600-new"),
        end: ["Stable", "green", "1.0.500-new 1.0.600-new"],
        expect: &[
            Switch("blue", "green"),
            Event("Normal TrafficSwitched", "1.0.500-new"),
            Same("created and deleted", SWITCHED, |seen| seen.created_and_deleted()),
            GOOD,
            history("1.0.437-old Superseded, 1.0.500-new Active"),
        ],
        show: &[SHOW],
        ..PLAIN
    },
    Scene {
        title: "3. A release whose pods never start: rolled back by the operator",
        name: "3 bad release",
        command: patch!("1.0.510-crash", "1.0.610-crash"),
        end: ["Degraded", "green", "1.0.510-crash 1.0.610-crash"],
        expect: &[
            Same("deploymentPhase, without a switch", "Deploying -> Cleanup -> Stable", |seen| seen.phases()),
            Same("spec, untouched", "1.0.510-crash 1.0.610-crash", |seen| seen.spec()),
            STORAGE_STAYS,
            SCHEMA_STAYS,
            PODS_STAY,
            Same("reason in the history", "CrashLoop or ImagePullFailed or ContainerStartError", |seen| {
                seen.reason()
            }),
            Same("phase, deploymentPhase", "Degraded, Stable", |seen| {
                format!("{}, {}", seen.state.phase(), seen.state.deployment_phase())
            }),
            Same(
                "conditions",
                "Ready=True Serving, SpecApplied=False RolledBack, Stalled=True RolledBack",
                |seen| seen.conditions(),
            ),
            Same("the condition's message names the pod", "pod sample1-", |seen| {
                seen.message("pod", " sample1-")
            }),
            Same("the condition's message names a remedy", "Remedy: ", |seen| seen.message("Remedy", ": ")),
            Same(
                "the condition's message names the way to try again",
                "kubectl annotate metadataservices sample1 -n autoscalingv2 e6data.io/retry=",
                |seen| seen.message("kubectl annotate", "e6data.io/retry="),
            ),
            history("1.0.437-old Superseded, 1.0.500-new Active, 1.0.510-crash Failed"),
            Same("left of blue", "nothing", |seen| seen.left_of("blue")),
            Event("Warning RolloutFailed", "1.0.510-crash"),
        ],
        show: &[("A user reads:", SHOW.1), ASK],
        ..PLAIN
    },
    Scene {
        title: "4. Manual rollback, by the guide's own line, twice",
        text: "While the failed release stands in the spec, releaseHistory[-2] is the active release: going back \
               to it clears the failure, without a switch.",
        name: "4 rollback-to, first",
        command: ROLL_BACK,
        end: ["Stable", "green", "1.0.500-new 1.0.600-new"],
        expect: &[
            Same("active release, and tags in the spec", "1.0.500-new 1.0.500-new 1.0.600-new", |seen| {
                format!("{} {}", seen.tag(seen.state.active()), tags(seen.state.0))
            }),
            STORAGE_STAYS,
            SCHEMA_STAYS,
            PODS_STAY,
            Same("created or deleted", "nothing", |seen| seen.created_and_deleted()),
            annotation("set at generation 3, removed at generation 4"),
            GOOD,
            history("1.0.510-crash Failed, 1.0.437-old Superseded, 1.0.500-new Active"),
        ],
        ..PLAIN
    },
    Scene {
        text: "Asked again, the same line brings back the release before that, whole.",
        name: "4 rollback-to, second",
        command: ROLL_BACK,
        end: ["Stable", "blue", "1.0.437-old 1.0.547-old"],
        expect: &[
            Switch("green", "blue"),
            Event("Normal TrafficSwitched", "1.0.437-old"),
            annotation("set at generation 4, removed at generation 5"),
            Same("pod templates", "those of the first release, to the letter", |seen| seen.same_templates()),
            history("1.0.510-crash Failed, 1.0.500-new Superseded, 1.0.437-old Active"),
            Same("lastRollback", "Manual 1.0.500-new -> 1.0.437-old", |seen| seen.last_rollback()),
        ],
        show: &[("The history is now:", HISTORY)],
        ..PLAIN
    },
    Scene {
        title: "5. An operator that is killed in the middle of a rollout",
        name: "5 operator killed",
        command: patch!("1.0.700-next", "1.0.800-next"),
        kill: true,
        end: ["Stable", "green", "1.0.700-next 1.0.800-next"],
        expect: &[
            Switch("blue", "green"),
            Event("Normal TrafficSwitched", "1.0.700-next"),
            Same("created and deleted, as in the upgrade of scene 2", SWITCHED, |seen| {
                seen.created_and_deleted()
            }),
            history(
                "1.0.510-crash Failed, 1.0.500-new Superseded, 1.0.437-old Superseded, 1.0.700-next Active",
            ),
        ],
        show: &[SHOW],
        ..PLAIN
    },
];
