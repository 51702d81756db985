"""What is known to be weak in PermutiveAPI 5.4.4, and the test that shows it is not so here.

Where a weakness does not apply, a sentence says why. The list is kept honest: every test it names exists.
"""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CALLS = "unit/permutive/test_client_calls.py"
BODIES = "unit/permutive/test_client_bodies.py"
ANSWERS = "unit/permutive/test_client_answers.py"
BATCHES = "unit/permutive/test_segment_batches.py"
ENDPOINTS = "contract/test_client_endpoints.py"
PARITY = "integration/test_permutive_api_parity.py"
TOGETHER = "integration/test_client_and_worker.py"
EMBEDDING = "integration/test_embedding.py"

WEAKNESSES: dict[str, list[tuple[str, str]] | str] = {
    "1 a thread for each request, blocked while it sleeps": [(CALLS, "test_places_bound_what_is_in_flight")],
    "2 a new connection for each request": [(ENDPOINTS, "test_one_connection_serves_call_after_call")],
    "3 no pace, and every thread meets a 429 by itself": [
        (CALLS, "test_retry_after_holds_every_call_of_the_key"),
        (CALLS, "test_a_rate_holds"),
        (TOGETHER, "test_a_pause_of_the_worker_holds_the_client_and_the_other_way_round"),
    ],
    "4 Retry-After: whole seconds of a 429 only, others crash, no bound": [
        (CALLS, "test_any_retry_after_is_understood_or_ignored"),
        (CALLS, "test_what_was_certainly_not_taken_is_always_repeated"),
        (CALLS, "test_a_pause_that_is_too_long_is_an_error_at_once_and_for_the_calls_after"),
    ],
    "5 the wait after a 429 does not grow": [(CALLS, "test_throttles_without_a_hint_wait_longer_each_time")],
    "6 a wait after the last attempt": [
        (CALLS, "test_attempts_are_bounded_and_there_is_no_wait_after_the_last")
    ],
    "7 writes are repeated though they may have been done": [
        (CALLS, "test_what_may_have_been_done_is_repeated_only_where_that_is_safe")
    ],
    "8 mistakes of the caller are repeated": [(CALLS, "test_what_the_api_does_not_take_is_not_sent")],
    "9 single calls have no timeout": [(ENDPOINTS, "test_every_call_has_a_timeout")],
    "10 the whole input in memory": [(EMBEDDING, "test_stream_yields_as_jobs_complete_and_holds_few")],
    "11 no back-pressure, no files": [
        ("unit/sources/test_sources_memory.py", "test_nothing_is_pulled_before_it_is_received"),
        ("integration/test_run.py", "test_a_file_is_delivered"),
    ],
    "12 nothing is left of what failed": [
        (
            "integration/test_run.py",
            "test_bad_lines_are_dead_letters_with_position_and_bytes_and_the_run_goes_on",
        )
    ],
    "13 no cancellation": [
        (CALLS, "test_a_cancelled_call_gives_its_place_back"),
        (EMBEDDING, "test_a_cancelled_run_settles_what_it_read"),
    ],
    "14 results that cannot be matched to inputs": [
        (EMBEDDING, "test_deliver_returns_outcomes_in_input_order_and_failures_as_values")
    ],
    "15 answers that cannot be read count as success": [
        (CALLS, "test_an_answer_that_cannot_be_read_says_that_the_call_was_taken")
    ],
    "16 identify throws the resolved user away": [(ENDPOINTS, "test_users")],
    "17 booleans in events become 1 and 0": [(BODIES, "test_requests")],
    "18 nulls that nobody asked for": [(BODIES, "test_requests"), (PARITY, "test_the_requests_are_the_same")],
    "19 times without a zone, dates as objects, nothing is checked": [
        (CALLS, "test_what_the_api_does_not_take_is_not_sent")
    ],
    "20 no limit of 10 events and 950 KB, no events": [
        (BODIES, "test_more_than_ten_events_go_one_request_after_another"),
        (CALLS, "test_what_the_api_does_not_take_is_not_sent"),
        (ENDPOINTS, "test_events"),
    ],
    "21 segmentation by user_id only": [(ENDPOINTS, "test_segmentation")],
    "22 409, 413, 422 lose status, URL and body": [(CALLS, "test_errors_by_status")],
    "23 errors drop message, code and request_id": [(CALLS, "test_errors_by_status")],
    "24 the key in URLs and tracebacks": [
        (BODIES, "test_requests"),
        (CALLS, "test_neither_key_nor_user_reach_an_error"),
        ("contract/test_wire.py", "test_key_travels_in_the_query_only_where_the_api_wants_it"),
    ],
    "25 a workspace prints its key": [(CALLS, "test_no_repr_shows_the_key")],
    "26 too much is redacted": [(CALLS, "test_only_the_key_is_taken_out_of_what_the_api_says")],
    "27 identifiers in the log": [(CALLS, "test_the_client_logs_nothing")],
    "28 redirects are followed": [(CALLS, "test_a_redirect_is_never_followed")],
    "29 32 requests at once by default": (
        "The number is a ceiling here: what leaves is what the pace allows, and the pace follows the API. "
        "`max_in_flight` makes it 4."
    ),
    "30 helpers take no base URL, headers, timeouts or retries": [
        (ENDPOINTS, "test_each_api_may_be_elsewhere"),
        (ENDPOINTS, "test_headers"),
        (CALLS, "test_idempotence_may_be_said_by_the_caller"),
    ],
    "31 the timeout of the environment does not hold everywhere": [
        (ENDPOINTS, "test_every_call_has_a_timeout")
    ],
    "32 progress without rates, with the payload": [
        (EMBEDDING, "test_deliver_takes_an_async_iterable_and_tells_progress"),
        ("unit/telemetry/test_progress.py", "test_a_progress_line_is_one_json_object_with_the_public_names"),
    ],
    "33 a request for each segment": [(BATCHES, "test_5000_operations_are_one_request_and_one_more_are_two")],
    "34 an update of a segment sets its price to 0": [
        (ENDPOINTS, "test_segments"),
        (PARITY, "test_the_requests_are_the_same"),
    ],
    "35 lists without pages, or without an end": [
        (ANSWERS, "test_lists_are_read_page_by_page"),
        (ANSWERS, "test_a_list_that_would_never_end_ends"),
        (ANSWERS, "test_a_list_may_be_left_early"),
    ],
    "36 a look-up by name reads the whole list and then asks again": (
        "The API has no other way: it finds cohorts by id only, sends them all in one answer, and a list has "
        "no queries. Details are asked for one by one only as the list is iterated."
    ),
    "37 ids are not escaped in paths": [(BODIES, "test_requests")],
    "38 times are made up, look-ups are stale": [
        (ANSWERS, "test_nothing_is_made_up"),
        (ANSWERS, "test_collected_lists_can_be_looked_into"),
    ],
    "39 importing it imports pandas": [
        ("unit/test_public_api.py", "test_a_part_does_not_import_the_rest"),
        ("unit/test_credentials.py", "test_the_first_that_is_set_wins"),
    ],
    "40 documentation that does not run": [("integration/test_readme.py", "test_programs_run")],
    "41 no breaker, no metrics, nothing stops at a refused key": [
        (CALLS, "test_a_refused_key_stops_the_calls_that_follow"),
        ("unit/control/test_breaker.py", "test_opens_after_twenty_failures_in_a_row"),
        ("unit/telemetry/test_metrics.py", "test_names_types_and_labels_are_the_public_ones"),
    ],
}


def test_all_of_them_are_here():
    assert [int(name.split()[0]) for name in WEAKNESSES] == list(range(1, 42))


@pytest.mark.parametrize("weakness", WEAKNESSES)
def test_a_test_shows_that_it_is_absent_or_a_sentence_why_it_does_not_apply(weakness):
    shown = WEAKNESSES[weakness]
    if isinstance(shown, str):
        assert shown.endswith(".")
        return
    for path, name in shown:
        tree = ast.parse((TESTS / path).read_text())
        functions = ast.FunctionDef | ast.AsyncFunctionDef
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, functions)}, (path, name)
