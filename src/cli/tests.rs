use clap::CommandFactory as _;

use super::*;

fn run(args: &[&str]) -> RunArgs {
    let all = std::iter::once("e6-operator").chain(args.iter().copied());
    match Cli::try_parse_from(all).unwrap().into_command() {
        Command::Run(run) => *run,
        Command::Crd(_) => panic!("expected run"),
    }
}

fn refused(args: &[&str]) -> String {
    let all = std::iter::once("e6-operator").chain(args.iter().copied());
    Cli::try_parse_from(all).unwrap_err().to_string()
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn version_is_the_packages() {
    assert_eq!(refused(&["--version"]).trim(), concat!("e6-operator ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn defaults() {
    let args = run(&[]);
    assert!(args.namespaces().is_empty());
    assert!(args.leader_elect);
    assert_eq!(args.leader_elect_namespace, None);
    assert_eq!(args.leader_elect_lease_name, "e6-operator.e6data.io");
    assert_eq!(args.metrics_bind_address, BindAddress(Some(([0_u16; 8], 8080).into())));
    assert_eq!(args.health_probe_bind_address, BindAddress(Some(([0_u16; 8], 8081).into())));
    assert_eq!((args.log_level.as_str(), args.log_format), ("info", LogFormat::Text));
    assert_eq!((args.concurrency, args.resync_seconds, args.request_timeout_seconds), (8, 300, 4));
    assert_eq!(args.default_image_repository, "docker.io/e6data");
    assert_eq!((args.min_storage_version, args.min_schema_version), (None, None));
    assert_eq!(args.request_timeout(), Duration::from_secs(4));
    assert_eq!(args.resync(), Duration::from_secs(300));
}

#[test]
fn run_may_be_named_or_not() {
    for prefix in [&[][..], &["run"][..]] {
        let args = run(&[prefix, &["--log-format", "json", "--concurrency=64"]].concat());
        assert_eq!((args.log_format, args.concurrency), (LogFormat::Json, 64));
    }
}

#[test]
fn crd_flags() {
    let parse = |args: &[&str]| match Cli::try_parse_from(args).unwrap().into_command() {
        Command::Crd(crd) => crd,
        Command::Run(_) => panic!("expected crd"),
    };
    assert_eq!(parse(&["e6-operator", "crd"]), CrdArgs::default());
    assert_eq!(parse(&["e6-operator", "crd", "--legacy"]), CrdArgs { legacy: true, next: false });
    assert_eq!(parse(&["e6-operator", "crd", "--next"]), CrdArgs { legacy: false, next: true });
    assert!(refused(&["crd", "--legacy", "--next"]).contains("--next"));
}

#[test]
fn leader_election_is_switched_as_in_go_programs() {
    for (flag, expected) in [
        ("--leader-elect", true),
        ("--leader-elect=true", true),
        ("--leader-elect=false", false),
        ("--leader-elect=0", false),
    ] {
        assert_eq!(run(&[flag]).leader_elect, expected, "{flag}");
    }
}

#[test]
fn namespaces_are_repeated_or_comma_separated_and_counted_once() {
    let args = run(&["--watch-namespace", "b,a", "--watch-namespace=a", "--watch-namespace="]);
    assert_eq!(args.namespaces().into_iter().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn listeners_can_be_moved_and_turned_off() {
    let args = run(&["--metrics-bind-address=0", "--health-probe-bind-address=[::]:9"]);
    assert_eq!(args.metrics_bind_address, BindAddress(None));
    assert_eq!(args.health_probe_bind_address.0.map(|a| a.to_string()).as_deref(), Some("[::]:9"));
    assert_eq!(
        run(&["--metrics-bind-address=:80"]).metrics_bind_address,
        BindAddress(Some(([0_u16; 8], 80).into()))
    );
}

#[test]
fn every_flag_has_its_environment_variable() {
    // A test that sets variables would race with other tests, so this one checks the binding.
    let command = Cli::command();
    let flags: Vec<_> =
        command.get_arguments().filter(|arg| !["help", "version"].contains(&arg.get_id().as_str())).collect();
    assert_eq!(flags.len(), 15);
    for flag in flags {
        let long = flag.get_long().unwrap();
        let expected = format!("E6_{}", long.to_uppercase().replace('-', "_"));
        assert_eq!(flag.get_env().and_then(|env| env.to_str()), Some(expected.as_str()), "{long}");
    }
}

#[test]
fn bad_values_are_refused_by_flag_name_and_remedy() {
    for (args, flag, remedy) in [
        (["--concurrency=0"], "--concurrency", "1..=64"),
        (["--concurrency=many"], "--concurrency", "many"),
        (["--resync-seconds=3601"], "--resync-seconds", "1..=3600"),
        (["--request-timeout-seconds=5"], "--request-timeout-seconds", "1..=4"),
        (["--metrics-bind-address=8080"], "--metrics-bind-address", "[::]:8080"),
        (["--health-probe-bind-address=x:1"], "--health-probe-bind-address", "0 to disable it"),
        (["--log-level=loud,,="], "--log-level", "info,e6_operator=debug"),
        (["--log-format=xml"], "--log-format", "json"),
        (["--watch-namespace=Team_A"], "--watch-namespace", "lower-case"),
        (["--leader-elect=perhaps"], "--leader-elect", "perhaps"),
        (["--leader-elect-lease-name=a..b"], "--leader-elect-lease-name", "253"),
        (["--min-storage-version=1.0"], "--min-storage-version", "1.0.450"),
        (["--min-schema-version=1.0.x"], "--min-schema-version", "1.0.450"),
        (["--default-image-repository=https://r/x"], "--default-image-repository", "without scheme"),
        (["--default-image-repository=r/x:1"], "--default-image-repository", "without scheme"),
    ] {
        let message = refused(&args);
        assert!(message.contains(flag) && message.contains(remedy), "{args:?}: {message}");
    }
}

#[test]
fn repositories_lose_a_trailing_slash_and_may_have_a_port() {
    assert_eq!(
        run(&["--default-image-repository=mirror:5000/e6/"]).default_image_repository,
        "mirror:5000/e6"
    );
}

#[test]
fn identity_is_never_shared() {
    let args = run(&["--identity=replica"]);
    let (one, two) = (args.unique_identity(), args.unique_identity());
    assert!(one.starts_with("replica_") && one != two, "{one} {two}");
    assert_eq!(one.len(), "replica_".len() + 8);
}

#[test]
fn the_lease_namespace_is_the_flag_when_given() {
    assert_eq!(run(&["--leader-elect-namespace=ops"]).lease_namespace(), "ops");
    let fallback = [None, Some(" \n".to_owned()), Some("pod-ns\n".to_owned())];
    assert_eq!(first_filled(fallback).as_deref(), Some("pod-ns"));
    assert_eq!(first_filled([None]), None);
}

/// Reads the environment of a process of its own: setting a variable in this one would race with other tests.
#[test]
fn the_environment_is_read() {
    const CHILD: &str = "E6_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        for args in [&[][..], &["run"][..]] {
            let args = run(args);
            assert_eq!((args.concurrency, args.leader_elect), (3, false));
            assert_eq!(args.namespaces().into_iter().collect::<Vec<_>>(), ["a", "b"]);
        }
        assert_eq!(run(&["--concurrency=5"]).concurrency, 5);
        assert!(matches!(
            Cli::try_parse_from(["e6-operator", "crd"]).unwrap().into_command(),
            Command::Crd(_)
        ));
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cli::tests::the_environment_is_read"])
        .env(CHILD, "1")
        .env("E6_CONCURRENCY", "3")
        .env("E6_LEADER_ELECT", "false")
        .env("E6_WATCH_NAMESPACE", "a,b")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
