//! What every engine promises, run on each of them: one test per promise and engine.

mod crash;
mod harness;
mod reads;
mod writes;

/// The promises, for one harness.
macro_rules! contract {
    ($name:ident: $harness:ty; $($module:ident: $($promise:ident),+;)+) => {
        mod $name {
            $($(
                #[test]
                fn $promise() {
                    crate::$module::$promise::<$harness>();
                }
            )+)+
        }
    };
}

macro_rules! all_promises {
    ($name:ident: $harness:ty) => {
        contract! {
            $name: $harness;
            writes:
                a_batch_is_visible_whole_in_all_families,
                the_last_operation_on_a_key_decides,
                deleting_what_is_not_there_is_fine,
                families_do_not_see_each_other,
                an_empty_key_and_an_empty_value_are_like_others,
                a_range_delete_takes_what_lies_inside,
                a_range_delete_and_its_neighbours_in_a_batch_keep_their_order,
                a_range_delete_that_runs_backward_covers_nothing,
                an_empty_batch_does_nothing,
                keys_and_values_beyond_the_limit_are_refused_and_do_no_harm,
                the_largest_key_and_a_large_value_fit,
                an_ingestion_appears_at_once,
                an_ingestion_that_fails_leaves_nothing,
                items_that_do_not_ascend_are_refused,
                the_size_of_a_range_grows_with_it,
                what_the_filter_removes_does_not_come_back;
            reads:
                a_snapshot_never_changes,
                an_iterator_outlives_its_snapshot_and_sees_no_later_write,
                iteration_respects_bounds_and_order,
                a_scan_stays_in_its_family,
                an_iterator_that_has_ended_stays_ended,
                thousands_of_readers_come_and_go,
                readers_see_whole_batches_while_writers_write;
            crash:
                a_clean_close_keeps_everything,
                a_flush_survives_a_crash,
                a_crash_leaves_a_prefix_of_whole_batches,
                an_ingestion_is_durable_and_so_is_what_came_before,
                range_deletes_survive_a_crash,
                a_live_reader_does_not_stop_a_close;
        }
    };
}

all_promises!(memory: crate::harness::MemoryHarness);
all_promises!(tree: crate::harness::TreeHarness);
