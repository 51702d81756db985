from permutive_worker.control.storm import MAX_PAUSE_SECONDS, Storm


def pauses(storm, times):
    """The pauses of a storm that goes on, and when it is over."""
    now, found = 0.0, []
    for _ in range(times):
        seconds = 0.0
        while not seconds:
            seconds = storm.throttled(now, now)
            now += 0.01
        found.append(seconds)
        now += seconds
    return found, now


def test_half_of_the_last_twenty_pause_for_a_second():
    storm = Storm()
    for _ in range(9):
        assert storm.throttled(0.0, 0.1) == 0.0
        storm.answered()
    assert storm.throttled(0.0, 0.1) == 1.0


def test_less_than_half_never_do():
    storm = Storm()
    for number in range(1000):
        if number % 5 < 2:
            assert storm.throttled(number, number) == 0.0
        else:
            storm.answered()


def test_a_storm_that_goes_on_pauses_twice_as_long_each_time():
    assert pauses(Storm(), 6)[0] == [1.0, 2.0, 4.0, 8.0, MAX_PAUSE_SECONDS, MAX_PAUSE_SECONDS]


def test_a_storm_after_a_calm_begins_anew():
    storm = Storm()
    _, now = pauses(storm, 4)
    now += 60.0
    found = [storm.throttled(now, now) for _ in range(10)]
    assert found[-1] == 1.0


def test_what_was_sent_before_the_pause_does_not_prolong_it():
    storm = Storm()
    _, now = pauses(storm, 1)
    assert not any(storm.throttled(now - 2.0, now) for _ in range(100))
