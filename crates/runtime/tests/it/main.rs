//! The conformance suite of the local runtimes, and the tests of images.
//!
//! Every function of `suite` runs against the embedded, the runc, the engine and the process runtime, each test with a runtime
//! folder of its own. What a machine cannot do is skipped by name, on standard error.

#![expect(clippy::unwrap_used, reason = "in a test a failure is a panic")]

mod archive;
mod budget;
mod devices;
mod faults;
mod images;
mod pull;
mod reach;
mod registry;
mod suite;
mod world;

/// Makes one test for each fact and runtime.
macro_rules! conformance {
    ($world:ident: $($fact:ident),* $(,)?) => {
        mod $world {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $fact() {
                let name = concat!(stringify!($world), "::", stringify!($fact));
                if let Some(world) = crate::world::World::$world(name).await {
                    crate::suite::$fact(&world).await;
                }
            })*
        }
    };
    ($($fact:ident),* $(,)?) => {
        conformance! { embedded: $($fact),* }
        conformance! { runc: $($fact),* }
        conformance! { engine: $($fact),* }
        conformance! { process: $($fact),* }
    };
}

// What depends on how a container gets its image, for the embedded runtime where layers are not stacked.
conformance! {
    copying:
    exit_code_and_both_streams_come_back,
    environment_workdir_and_user_are_as_asked,
    remove_leaves_nothing,
    writes_stay_in_the_container,
    the_host_is_out_of_sight,
    forgetting_spares_what_is_kept_and_used,
    layers_are_stacked_with_their_deletions,
}

conformance! {
    exit_code_and_both_streams_come_back,
    a_missing_command_is_127_and_an_unfit_one_126,
    a_signal_that_ends_the_command_is_told,
    sigterm_reaches_the_command,
    a_deaf_command_is_killed_after_the_grace,
    kill_ends_it_at_once,
    stopped_before_start_it_never_starts,
    environment_workdir_and_user_are_as_asked,
    create_adopts_the_same_spec_and_refuses_another,
    a_spec_that_cannot_run_is_the_tenants_fault,
    start_again_does_nothing,
    a_restart_goes_on_with_disk_and_output_and_is_made_once,
    logs_are_bounded_and_keep_head_and_tail,
    what_the_command_leaves_behind_ends_with_it,
    remove_leaves_nothing,
    many_start_side_by_side,
    memory_limit_kills_and_tells,
    pids_limit_holds,
    cpu_quota_throttles,
    writes_stay_in_the_container,
    dangerous_calls_are_denied,
    the_host_is_out_of_sight,
    only_loopback_is_there,
    forgetting_spares_what_is_kept_and_used,
    layers_are_stacked_with_their_deletions,
}
