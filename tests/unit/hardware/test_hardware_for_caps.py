from hardware_trees import raspberry_pi_4

from tailorbird_agent.adapt.caps import Cap, advance, uncapped
from tailorbird_agent.adapt.switch import Cause
from tailorbird_agent.hardware import SensorReader


class Asked(dict):
    """Readings that remember which names were looked up."""

    def __init__(self, values):
        super().__init__(values)
        self.names = set()

    def get(self, name, default=None):
        self.names.add(name)
        return super().get(name, default)


def test_the_caps_look_up_only_names_that_the_sensors_report(tmp_path):
    readings = Asked(SensorReader(tmp_path, tmp_path).read().as_dict())
    advance(uncapped(5), readings, 0.0, current=4)
    readings.update(battery_percent=50.0, memory_some_avg10_percent=0.0)
    advance(uncapped(5), readings, 0.0, current=4, needs_bytes=(1,) * 5)
    assert len(readings.names) == 6
    assert readings.names <= set(readings)


def test_a_throttled_raspberry_pi_is_given_a_smaller_rung(tmp_path):
    cool = SensorReader(raspberry_pi_4(tmp_path)).read().as_dict()
    assert advance(uncapped(5), cool, 0.0, current=4).cap == Cap(4)
    hot = SensorReader(raspberry_pi_4(tmp_path, throttled="8", temperature="82000")).read().as_dict()
    assert advance(uncapped(5), hot, 0.0, current=4).cap == Cap(3, Cause.THERMAL)
