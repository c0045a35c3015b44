import pytest

from umbel.settings.autoscale import autoscale_problem, read_autoscale


@pytest.mark.parametrize("text,bounds", [("10,3", (10, 3)), ("10, 3 ", (10, 3)), ("4", (4, 1))])
def test_most_and_fewest_are_read_in_celerys_order(text, bounds):
    assert read_autoscale(text) == bounds


@pytest.mark.parametrize("text", ["", "a,b", "1,2,3", "3,10", "0", "5,0", "2.5,1"])
def test_what_are_no_bounds_is_said_with_an_example(text):
    with pytest.raises(ValueError, match="such as 10,3"):
        read_autoscale(text)
    assert "such as 10,3" in (autoscale_problem(text) or "")


@pytest.mark.parametrize("text", [None, "10,3"])
def test_bounds_and_none_have_no_problem(text):
    assert autoscale_problem(text) is None
