// Temperatures, clocks and throttling: the files of the system that hold them, and their content,
// as latbench.host.sensors finds and reads them (docs/devices/state.md).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "host.h"

namespace latbench {

// The files of one machine. They are found once and read often.
struct Sensors {
    struct Temperature {
        std::string path;
        // Of a thermal zone: phones report some of theirs in degrees.
        bool zone;
        // A type that on phones may mean the state of charge, in percent.
        bool maybe_charge;
    };
    std::vector<Temperature> temperatures;
    // One for each group of CPUs that share a clock.
    std::vector<std::string> clocks;
    // Growing counts of events, and milliseconds of throttling.
    std::vector<std::string> counters, durations;
    // Bits that the firmware of a Raspberry Pi reports; or an alarm, 0 or 1, without them.
    std::optional<std::string> flags, under_voltage;
    // States of devices that slow something down to cool it.
    std::vector<std::string> coolers;
};

Sensors find_sensors(const std::string& root);

// Those of the latest `root`, found once.
const Sensors& known_sensors(const std::string& root);

// The hottest CPU sensor, in millidegrees.
Number temperature_mc(const Sensors& sensors);

std::vector<Number> clocks_khz(const Sensors& sensors);

Throttling throttling(const Sensors& sensors);

}  // namespace latbench
