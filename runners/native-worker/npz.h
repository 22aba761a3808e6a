// Arrays in files written by numpy.savez.
#pragma once

#include <string>

#include "inputs.h"

namespace latbench {

// The arrays in the file at `path`, by name. Throws Failure of the stage `open`: the file cannot be
// read, is damaged, or holds what this program does not read (compressed members, objects).
Stored read_npz(const std::string& path);

}  // namespace latbench
