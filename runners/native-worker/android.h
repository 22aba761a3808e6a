// What Android's own programs report: dumpsys and getprop below /system/bin. They are started only
// where they exist. `root` is prepended to their path, for tests.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "host.h"

namespace latbench::android {

struct Thermal {
    // Name of the status; nothing while it is faked.
    std::optional<std::string> status;
    std::optional<bool> faked;
    // The hottest CPU sensor of the hardware's own service and its name there; and the hottest
    // sensor of the skin.
    Number temperature_mc;
    std::optional<std::string> sensor;
    Number skin_mc;
};

struct Power {
    std::optional<bool> on_battery, charging;
    Number battery_percent;
};

struct Screen {
    std::optional<bool> on, low_power;
};

// `dumpsys thermalservice`, `battery` and `power`. Each starts one program.
Thermal thermal(const std::string& root);
Power power(const std::string& root);
Screen screen(const std::string& root);

// All properties of the system; empty where there is no getprop.
std::map<std::string, std::string> properties(const std::string& root);

// The same of a text.
Thermal read_thermal(const std::string& text);
Power read_power(const std::string& text);
Screen read_screen(const std::string& text);

}  // namespace latbench::android
