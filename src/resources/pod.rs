//! The Pods of a component.

use k8s_openapi::{
    api::core::v1::{
        Capabilities, ConfigMapVolumeSource, Container, ContainerPort, Lifecycle, LifecycleHandler,
        LocalObjectReference, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
        SeccompProfile, SecurityContext, SleepAction, TCPSocketAction, Volume, VolumeMount,
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use super::{Release, RenderError, config_map, labels, scheduling::schedule, service_account, some, strings};
use api::names::{self, Component};
use api::{ComponentSpec, component::Resources, embed::typed, template::ReleaseTemplate};

/// The volume of the configuration; the name is reserved.
const CONFIG_VOLUME: &str = "e6data-config";

/// Renders the pod template.
pub fn template(release: &Release<'_>, component: Component) -> Result<PodTemplateSpec, RenderError> {
    let part = release.template.component(component);
    let mut labels = part.pod_labels.clone();
    // The operator's labels override the user's: selectors depend on them, and a server without CEL accepts reserved keys.
    labels.extend(self::labels(&release.owner.name, component, Some(release.color)));
    let mut annotations = part.pod_annotations.clone();
    annotations.extend(strings([(names::RELEASE_VERSION, release.version)]));
    let metadata =
        ObjectMeta { labels: Some(labels), annotations: Some(annotations), ..ObjectMeta::default() };
    Ok(PodTemplateSpec { metadata: Some(metadata), spec: Some(pod(release, component)?) })
}

fn pod(release: &Release<'_>, component: Component) -> Result<PodSpec, RenderError> {
    let spec = release.template.spec();
    let part = spec.component(component);
    let secrets = spec.image_pull_secrets.iter();
    let mut pod = PodSpec {
        containers: vec![container(release, component)],
        image_pull_secrets: some(
            secrets.map(|secret| LocalObjectReference { name: secret.name.clone() }).collect::<Vec<_>>(),
        ),
        security_context: Some(spec.pod_security_context.clone().unwrap_or_else(restricted_pod)),
        service_account_name: service_account::service_account_name(
            &release.owner.name,
            &spec.service_account,
        ),
        termination_grace_period_seconds: Some(termination_grace(part)),
        volumes: Some(volumes(release, component)?),
        ..PodSpec::default()
    };
    schedule(release, component, &mut pod)?;
    Ok(pod)
}

fn container(release: &Release<'_>, component: Component) -> Container {
    let spec = release.template.spec();
    let part = spec.component(component);
    let policy = part.image_pull_policy.as_ref().or(spec.image_pull_policy.as_ref());
    let mut mounts = vec![VolumeMount {
        name: CONFIG_VOLUME.into(),
        mount_path: config_map::MOUNT_PATH.into(),
        read_only: Some(true),
        ..VolumeMount::default()
    }];
    mounts.extend(part.extra_volume_mounts.iter().cloned());
    Container {
        name: component.as_str().into(),
        image: Some(image(release.template, component, &release.defaults.image_repository)),
        image_pull_policy: Some(policy.map_or("IfNotPresent", String::as_str).to_owned()),
        command: some(part.command.clone()),
        args: some(part.args.clone()),
        env: some(part.env.clone()),
        env_from: some(part.env_from.clone()),
        ports: Some(vec![ContainerPort {
            name: Some(component.as_str().into()),
            container_port: component.port(),
            protocol: Some("TCP".into()),
            ..ContainerPort::default()
        }]),
        resources: resources(&part.resources),
        liveness_probe: Some(part.liveness_probe.clone().unwrap_or_else(|| liveness(component))),
        readiness_probe: Some(part.readiness_probe.clone().unwrap_or_else(|| readiness(component))),
        startup_probe: part.startup_probe.clone(),
        lifecycle: pre_stop(part, release.defaults.sleep_action),
        security_context: Some(part.security_context.clone().unwrap_or_else(restricted_container)),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

/// Returns the image of a component: `<repository>:<tag>[@<digest>]`.
pub fn image(template: &ReleaseTemplate, component: Component, default_repository: &str) -> String {
    let spec = template.spec();
    let part = spec.component(component);
    let repository = part.image_repository.clone().unwrap_or_else(|| {
        let prefix = spec.image_repository.as_deref().unwrap_or(default_repository).trim_end_matches('/');
        if prefix.is_empty() { component.to_string() } else { format!("{prefix}/{component}") }
    });
    let digest = part.image_digest.as_deref().map(|digest| format!("@{digest}")).unwrap_or_default();
    format!("{repository}:{}{digest}", part.image_tag)
}

fn resources(resources: &Resources) -> Option<ResourceRequirements> {
    some(resources.requests.clone()).or(some(resources.limits.clone()))?;
    Some(ResourceRequirements {
        requests: some(resources.requests.clone()),
        limits: some(resources.limits.clone()),
        ..ResourceRequirements::default()
    })
}

fn volumes(release: &Release<'_>, component: Component) -> Result<Vec<Volume>, RenderError> {
    let config = Volume {
        name: CONFIG_VOLUME.into(),
        config_map: Some(ConfigMapVolumeSource {
            name: names::config(&release.owner.name, component, release.color),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    };
    let extra = release.template.component(component).extra_volumes.iter().enumerate();
    let extra = extra.map(|(index, value)| {
        let field = format!("spec.{component}.extraVolumes[{index}]");
        typed(value).map_err(|message| RenderError { field, message })
    });
    std::iter::once(Ok(config)).chain(extra).collect()
}

fn termination_grace(part: &ComponentSpec) -> i64 {
    part.termination_grace_period_seconds.unwrap_or(30).clamp(0, 3600)
}

/// Returns a preStop hook that keeps a Pod serving until all nodes route requests elsewhere. It is shorter than the termination
/// grace period, so that the container gets SIGTERM before SIGKILL.
fn pre_stop(part: &ComponentSpec, sleep_action: bool) -> Option<Lifecycle> {
    let wanted = part.pre_stop_sleep_seconds.unwrap_or(5).clamp(0, 600);
    let seconds = wanted.min(termination_grace(part) - 1);
    (sleep_action && seconds > 0).then(|| Lifecycle {
        pre_stop: Some(LifecycleHandler {
            sleep: Some(SleepAction { seconds }),
            ..LifecycleHandler::default()
        }),
        ..Lifecycle::default()
    })
}

/// Returns the default probe. It only connects, since the operator does not know the application protocol.
fn connect(component: Component) -> TCPSocketAction {
    TCPSocketAction { port: IntOrString::String(component.as_str().into()), host: None }
}

fn readiness(component: Component) -> Probe {
    Probe {
        tcp_socket: Some(connect(component)),
        period_seconds: Some(5),
        failure_threshold: Some(3),
        ..Probe::default()
    }
}

/// Returns the liveness probe. Its delay lets a service load its tables for five minutes.
fn liveness(component: Component) -> Probe {
    Probe {
        tcp_socket: Some(connect(component)),
        initial_delay_seconds: Some(300),
        period_seconds: Some(10),
        failure_threshold: Some(3),
        ..Probe::default()
    }
}

fn restricted_pod() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), ..SeccompProfile::default() }),
        ..PodSecurityContext::default()
    }
}

fn restricted_container() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
        ..SecurityContext::default()
    }
}
