//! Both engines over real sockets: the same tests for each, and for each way of sending.

mod common;
#[cfg(test)]
#[path = "engines/marks.rs"]
mod marks;
#[cfg(test)]
#[path = "engines/traffic.rs"]
mod traffic;
#[cfg(test)]
#[path = "engines/trouble.rs"]
mod trouble;

/// Every test, once per engine and way of sending.
macro_rules! for_every_engine {
    ($($suite:ident::$name:ident,)*) => {
        mod mmsg {
            $(#[test] fn $name() { crate::$suite::$name(crate::common::Kind::Mmsg); })*
        }
        mod uring {
            $(#[test] fn $name() { crate::$suite::$name(crate::common::Kind::Uring); })*
        }
        mod uring_tx {
            $(#[test] fn $name() { crate::$suite::$name(crate::common::Kind::UringTx); })*
        }
    };
}

for_every_engine! {
    marks::marks_are_of_single_datagrams,
    marks::marks_are_right_while_the_socket_changes_its_own,
    marks::a_run_that_is_refused_keeps_its_mark,
    traffic::answers_leave_from_the_address_that_was_asked,
    traffic::a_socket_of_one_address_says_it,
    traffic::runs_come_whole_and_leave_whole,
    traffic::without_offloads_every_datagram_is_its_own,
    traffic::runs_are_as_long_as_allowed,
    traffic::many_sends_in_one_flush_keep_their_order,
    traffic::echoes_are_never_corrupted,
    traffic::runs_without_a_copy_arrive_the_same,
    trouble::an_empty_pool_pauses_and_recovers,
    trouble::what_does_not_fit_its_slot_is_dropped_and_counted,
    trouble::a_wake_ends_the_wait,
    trouble::waits_end_without_anything,
    trouble::waits_may_poll_first,
    trouble::losses_in_the_kernel_are_counted,
    trouble::errors_are_counted_and_nothing_breaks,
    trouble::a_refused_offload_is_given_up_for_good,
    trouble::a_bad_source_address_does_not_end_the_offload,
    trouble::all_slots_come_home,
}
