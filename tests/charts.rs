//! Rendered output of charts and kustomize, with both Helm versions and without a cluster.

// A test fails by unwrapping, indexing or panicking.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use testbed::assets;

const NAMESPACE: &str = "e6-operator-system";
const SELECTOR: [(&str, &str); 2] =
    [("control-plane", "controller-manager"), ("app.kubernetes.io/name", "e6-operator")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn helms() -> [PathBuf; 2] {
    [assets::helm().unwrap(), assets::helm3().unwrap()]
}

fn run(program: &Path, args: &[&str]) -> Output {
    // Helm must not read the configuration of the user who runs the test.
    let home = std::env::temp_dir().join("e6-no-helm-home");
    let mut command = Command::new(program);
    command.args(args).current_dir(root()).env("HELM_CONFIG_HOME", &home).env("HELM_CACHE_HOME", &home);
    command.env("KUBECONFIG", "/nonexistent").output().unwrap()
}

fn objects(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let all: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    all.into_iter().filter(|object| !object.is_null()).collect()
}

/// Returns the objects that a chart renders for a Helm release. Helm 3 and 4 must render the same.
fn render(release: &str, chart: &str, args: &[&str]) -> Vec<Value> {
    let path = format!("charts/{chart}");
    let all = [&["template", release, path.as_str(), "--namespace", NAMESPACE], args].concat();
    let [four, three] = helms().map(|helm| objects(&run(&helm, &all)));
    assert_eq!(indexed(&four), indexed(&three), "Helm 3 and 4 render differently");
    assert_eq!(four.len(), indexed(&four).len(), "two objects have one name");
    four
}

/// Returns the error message of Helm for refused values.
fn refusal(args: &[&str]) -> String {
    let all = [&["template", "e6-operator", "charts/e6-operator", "--namespace", NAMESPACE], args].concat();
    let [four, _] = helms().map(|helm| {
        let output = run(&helm, &all);
        assert!(!output.status.success(), "{args:?} was accepted");
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    });
    four
}

fn kustomize(path: &str) -> Vec<Value> {
    objects(&run(&assets::kubectl().unwrap(), &["kustomize", path]))
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn id(object: &Value) -> String {
    format!(
        "{} {}/{}",
        text(object, "/kind"),
        text(object, "/metadata/namespace"),
        text(object, "/metadata/name")
    )
}

fn indexed(objects: &[Value]) -> BTreeMap<String, Value> {
    objects.iter().map(|object| (id(object), object.clone())).collect()
}

fn find<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut all = objects.iter().filter(|object| object["kind"] == kind);
    let one = all.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(all.next().is_none(), "more than one {kind}");
    one
}

fn has(objects: &[Value], kind: &str) -> bool {
    objects.iter().any(|object| object["kind"] == kind)
}

fn env(deployment: &Value, name: &str) -> Option<String> {
    let all = deployment.pointer("/spec/template/spec/containers/0/env")?.as_array()?;
    all.iter().find(|one| one["name"] == name)?["value"].as_str().map(str::to_owned)
}

#[test]
fn helm_finds_nothing_to_complain_of() {
    for helm in helms() {
        for chart in ["charts/e6-operator", "charts/e6-operator-crds"] {
            let output = run(&helm, &["lint", "--strict", chart]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
    }
}

#[test]
fn helm_and_kustomize_install_the_same() {
    let policy = ["--api-versions", "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy"];
    let chart = indexed(&render("e6-operator", "e6-operator", &policy));
    for base in ["config/default", "overlays/production"] {
        let ours = [kustomize(base), kustomize("config/policy")].concat();
        let ours: BTreeMap<_, _> = indexed(&ours)
            .into_iter()
            .filter(|(id, _)| !id.starts_with("Namespace ") && !id.starts_with("CustomResourceDefinition "))
            .collect();
        let budget = "PodDisruptionBudget e6-operator-system/e6-operator-controller-manager";
        let names: BTreeSet<_> =
            chart.keys().filter(|id| base != "config/default" || *id != budget).collect();
        assert_eq!(names, ours.keys().collect(), "{base}");
        for (id, object) in &ours {
            assert_same(id, object, &chart[id]);
        }
    }
}

fn assert_same(id: &str, ours: &Value, chart: &Value) {
    for part in ["/rules", "/roleRef", "/subjects", "/spec/selector", "/spec/ports", "/spec/minAvailable"] {
        assert_eq!(ours.pointer(part), chart.pointer(part), "{id} {part}");
    }
    if id.starts_with("ValidatingAdmissionPolicy") {
        assert_eq!(ours["spec"], chart["spec"], "{id}");
    }
    for (key, value) in ours.pointer("/metadata/labels").unwrap().as_object().unwrap() {
        assert_eq!(value, &chart["metadata"]["labels"][key], "{id} {key}");
    }
    if id.starts_with("Deployment") {
        let pod = "/spec/template/spec";
        for part in ["serviceAccountName", "securityContext", "terminationGracePeriodSeconds"] {
            assert_eq!(ours.pointer(pod).unwrap()[part], chart.pointer(pod).unwrap()[part], "{part}");
        }
        for part in ["name", "image", "ports", "livenessProbe", "readinessProbe", "securityContext"] {
            let container = format!("{pod}/containers/0/{part}");
            assert_eq!(ours.pointer(&container), chart.pointer(&container), "{part}");
        }
        for name in ["E6_MIN_STORAGE_VERSION", "E6_MIN_SCHEMA_VERSION"] {
            assert_eq!(env(ours, name), env(chart, name), "{name}");
        }
    }
}

#[test]
fn names_are_those_of_the_guide() {
    let all = indexed(&render("e6-operator", "e6-operator", &[]));
    for id in [
        "Deployment e6-operator-system/e6-operator-controller-manager",
        "ServiceAccount e6-operator-system/e6-operator-controller-manager",
        "ClusterRole /metadataservices-operator-manager-role",
        "ClusterRoleBinding /metadataservices-operator-manager-rolebinding",
        "Role e6-operator-system/e6-operator-leader-election-role",
        "RoleBinding e6-operator-system/e6-operator-leader-election-rolebinding",
        "Service e6-operator-system/e6-operator-metrics-service",
    ] {
        assert!(all.contains_key(id), "{id} is not among {:?}", all.keys());
    }
    let deployment = &all["Deployment e6-operator-system/e6-operator-controller-manager"];
    let containers = deployment.pointer("/spec/template/spec/containers").unwrap().as_array().unwrap();
    let wanted = format!("e6data/e6-operator:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!((text(&containers[0], "/name"), text(&containers[0], "/image")), ("manager", wanted.as_str()));
    assert_eq!(deployment["spec"]["selector"], json!({"matchLabels": BTreeMap::from(SELECTOR)}));
    assert_eq!(deployment["spec"]["replicas"], 2);
    assert_eq!(env(deployment, "E6_LEADER_ELECT").as_deref(), Some("true"));
    assert_eq!(env(deployment, "E6_LEADER_ELECT_LEASE_NAME").as_deref(), Some("e6-operator.e6data.io"));
}

/// `kubectl apply -k` fails in a cluster without add-ons if an object has a kind of an add-on.
#[test]
fn the_default_is_for_any_cluster() {
    let plain = ["v1", "apps/v1", "rbac.authorization.k8s.io/v1", "apiextensions.k8s.io/v1", "policy/v1"];
    for base in ["config/default", "overlays/production"] {
        for object in kustomize(base) {
            assert!(plain.contains(&text(&object, "/apiVersion")), "{base}: {}", id(&object));
        }
    }
    let namespace =
        kustomize("config/default").into_iter().find(|object| object["kind"] == "Namespace").unwrap();
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
}

#[test]
fn other_releases_get_names_of_their_own() {
    let guide: BTreeSet<_> = render("e6-operator", "e6-operator", &[]).iter().map(id).collect();
    let long = "a-release-of-the-longest-name-that-helm-allows-for-it";
    for release in ["e6-operator-staging", long] {
        let all = render(release, "e6-operator", &[]);
        for object in &all {
            assert!(!guide.contains(&id(object)), "{} is taken", id(object));
            // A Service's name is a DNS label of at most 63 characters. Names of other kinds may be longer.
            let fits = object["kind"] != "Service" || text(object, "/metadata/name").len() <= 63;
            assert!(fits, "{} is too long", id(object));
        }
        let deployment = find(&all, "Deployment");
        assert_eq!(deployment["spec"]["selector"]["matchLabels"], json!(BTreeMap::from(SELECTOR)));
    }
    let staging = render("e6-operator-staging", "e6-operator", &[]);
    assert_eq!(
        text(find(&staging, "Deployment"), "/metadata/name"),
        "e6-operator-staging-controller-manager"
    );
    assert_eq!(
        text(find(&staging, "ClusterRole"), "/metadata/name"),
        "e6-operator-staging-metadataservices-manager-role"
    );
}

#[test]
fn watched_namespaces_get_roles_and_nothing_is_left_cluster_wide() {
    let whole = render("e6-operator", "e6-operator", &[]);
    let all = render("e6-operator", "e6-operator", &["--set", "watchNamespaces={one,two}"]);
    let cluster = find(&all, "ClusterRole")["rules"].as_array().unwrap().clone();
    assert_eq!(cluster.len(), 1);
    assert_eq!(cluster[0]["resources"], json!(["customresourcedefinitions"]));
    assert_eq!(cluster[0]["resourceNames"], json!(["metadataservices.e6data.io"]));
    let mut rules = find(&whole, "ClusterRole")["rules"].as_array().unwrap().clone();
    rules.retain(|rule| rule != &cluster[0]);
    let all = indexed(&all);
    for namespace in ["one", "two"] {
        let role = &all[&format!("Role {namespace}/metadataservices-operator-manager-role")];
        assert_eq!(role["rules"].as_array(), Some(&rules));
        let binding = &all[&format!("RoleBinding {namespace}/metadataservices-operator-manager-rolebinding")];
        assert_eq!(binding["subjects"][0]["namespace"], NAMESPACE);
    }
    let deployment = &all["Deployment e6-operator-system/e6-operator-controller-manager"];
    assert_eq!(env(deployment, "E6_WATCH_NAMESPACE").as_deref(), Some("one,two"));
}

#[test]
fn no_right_on_secrets_and_no_wildcard() {
    let objects = [render("e6-operator", "e6-operator", &[]), kustomize("overlays/production")].concat();
    let roles = objects.iter().filter(|object| text(object, "/kind").ends_with("Role"));
    for rule in roles.flat_map(|role| role["rules"].as_array().unwrap()) {
        let words: Vec<_> = ["apiGroups", "resources", "verbs"]
            .iter()
            .flat_map(|key| rule[key].as_array().unwrap())
            .map(|word| word.as_str().unwrap())
            .collect();
        assert!(!words.contains(&"*") && !words.contains(&"secrets"), "{rule}");
    }
}

#[test]
fn the_crd_fits_the_clusters_version() {
    let read = |path: &str| -> Value {
        serde_saphyr::from_str(&std::fs::read_to_string(root().join(path)).unwrap()).unwrap()
    };
    let cases = [
        ("1.22.17", "crds/legacy/metadataservices.e6data.io.yaml"),
        ("1.24.17-eks-1", "crds/legacy/metadataservices.e6data.io.yaml"),
        ("1.25.0-rc.0", "crds/metadataservices.e6data.io.yaml"),
        ("1.37.2", "crds/metadataservices.e6data.io.yaml"),
    ];
    for (version, path) in cases {
        let all = render("e6-operator-crds", "e6-operator-crds", &["--kube-version", version]);
        assert_eq!(all, [read(path)], "{version}");
    }
    let crd = read("charts/e6-operator/crds/metadataservices.e6data.io.yaml");
    assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    assert_eq!(crd["metadata"]["annotations"]["meta.helm.sh/release-name"], "e6-operator-crds");
    assert_eq!(crd["metadata"]["annotations"]["meta.helm.sh/release-namespace"], NAMESPACE);
    assert_eq!(crd["metadata"]["labels"]["app.kubernetes.io/managed-by"], "Helm");
    assert_eq!(kustomize("config/crd"), [crd]);
}

#[test]
fn the_policy_is_there_where_kubernetes_has_it_and_it_is_wanted() {
    let kind = "ValidatingAdmissionPolicy";
    let known = ["--api-versions", "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy"];
    assert!(has(&render("e6-operator", "e6-operator", &known), kind));
    assert!(!has(&render("e6-operator", "e6-operator", &[]), kind));
    let off = [&known[..], &["--set", "rollbackPolicy.enabled=false"]].concat();
    assert!(!has(&render("e6-operator", "e6-operator", &off), kind));
    let confined = [&known[..], &["--set", "watchNamespaces={one}"]].concat();
    let all = render("e6-operator", "e6-operator", &confined);
    let binding = find(&all, "ValidatingAdmissionPolicyBinding");
    let among = binding.pointer("/spec/matchResources/namespaceSelector/matchExpressions/0/values");
    assert_eq!(among, Some(&json!(["one"])));
}

#[test]
fn monitoring_is_optional_and_the_guides_alerts_are_verbatim() {
    let args = ["--set", "metrics.serviceMonitor.enabled=true,metrics.prometheusRule.enabled=true"];
    let all = render("e6-operator", "e6-operator", &args);
    assert_eq!(find(&all, "ServiceMonitor")["spec"]["endpoints"][0]["port"], "metrics");
    let rules = &find(&all, "PrometheusRule")["spec"]["groups"][0]["rules"];
    assert_eq!(
        rules,
        &json!([
            {"alert": "UpgradeStalled", "for": "10m", "labels": {"severity": "warning"},
             "expr": "kube_deployment_status_observed_generation != kube_deployment_metadata_generation",
             "annotations": {"summary": "Deployment upgrade stalled"}},
            {"alert": "HighErrorRateDuringUpgrade", "for": "5m", "labels": {"severity": "critical"},
             "expr": "rate(controller_runtime_reconcile_errors_total[5m]) > 0.1",
             "annotations": {"summary": "High error rate during upgrade"}},
        ])
    );
}

#[test]
fn values_of_other_versions_are_accepted() {
    let unknown =
        "webhook.enabled=true,webhook.certManager=x,enforceImageCompat=true,nameOverride=y,manager.old={a,b}";
    let all = render("e6-operator", "e6-operator", &["--set", unknown]);
    assert_eq!(indexed(&all), indexed(&render("e6-operator", "e6-operator", &[])));
    let all = render("e6-operator", "e6-operator", &["--set", "image.tag=0.1"]);
    let image = find(&all, "Deployment").pointer("/spec/template/spec/containers/0/image").cloned();
    assert_eq!(image, Some(json!("e6data/e6-operator:0.1")));
}

/// Each value changes the named field, and all values together still render.
#[test]
fn values_change_what_they_name() {
    let all = render(
        "e6-operator",
        "e6-operator",
        &[
            "--set",
            "rbac.create=false,serviceAccount.create=false,serviceAccount.name=theirs,replicaCount=1",
            "--set",
            "leaderElection.enabled=false,metrics.service.enabled=false,metrics.port=9000,podLabels.team=data",
            "--set",
            "extraEnv[0].name=RUST_BACKTRACE,extraEnv[0].value=full,nodeSelector.disk=fast",
            "--set-json",
            "image.tag=20251101",
        ],
    );
    for kind in
        ["ClusterRole", "ClusterRoleBinding", "Role", "ServiceAccount", "Service", "PodDisruptionBudget"]
    {
        assert!(!has(&all, kind), "{kind}");
    }
    let deployment = find(&all, "Deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(text(deployment, "/spec/template/metadata/labels/team"), "data");
    assert_eq!(pod["serviceAccountName"], "theirs");
    assert_eq!(pod["nodeSelector"], json!({"disk": "fast"}));
    assert_eq!(pod["containers"][0]["image"], "e6data/e6-operator:20251101");
    assert_eq!(pod["containers"][0]["ports"][0]["containerPort"], 9000);
    assert_eq!(env(deployment, "E6_LEADER_ELECT").as_deref(), Some("false"));
    assert_eq!(env(deployment, "RUST_BACKTRACE").as_deref(), Some("full"));
    let usual = render("e6-operator", "e6-operator", &[]);
    assert!(has(&usual, "PodDisruptionBudget"));
    let spread = &find(&usual, "Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"];
    assert_eq!(spread[0]["whenUnsatisfiable"], "ScheduleAnyway", "{spread}");
}

#[test]
fn wrong_values_are_refused_by_name() {
    for (values, named) in [
        ("replicaCount=two", "replicaCount"),
        ("replicaCount=-1", "replicaCount"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("image.repository=", "repository"),
        ("watchNamespaces={Not_A_Namespace}", "watchNamespaces"),
        ("watchNamespaces=one", "watchNamespaces"),
        ("log.format=xml", "format"),
        ("concurrency=0", "concurrency"),
        ("metrics.port=99999", "port"),
        ("minimumVersions.storage=latest", "storage"),
        ("leaderElection.enabled=maybe", "enabled"),
        ("resources=none", "resources"),
        ("leaderElection.enabled=false", "Set replicaCount=1"),
        ("serviceAccount.create=false", "name the ServiceAccount"),
        ("metrics.port=8081", "choose another port"),
    ] {
        let said = refusal(&["--set", values]);
        assert!(said.contains(named), "{values}: {said}");
    }
    // YAML reads this tag as the number 0.1.
    let said = refusal(&["--set-json", "image.tag=0.10"]);
    assert!(said.contains("tag"), "{said}");
    let said = refusal(&["--kube-version", "1.21.14"]);
    assert!(said.contains("kubeVersion: >=1.22.0-0"), "{said}");
}

/// Otherwise `helm diff` shows false differences, and a GitOps controller syncs without end.
#[test]
fn rendering_twice_gives_the_same() {
    assert_eq!(render("e6-operator", "e6-operator", &[]), render("e6-operator", "e6-operator", &[]));
}
