// `latbench-native script VERB FOLDER`: a run without its harness.
//
// `run` executes the script in a job's folder, as a small harness on the device itself; `start`
// starts that in the background. `list` describes the jobs in a folder, and `cancel` ends one. Each
// verb but `run` prints JSON and ends. docs/PROTOCOL.md ("Scripts") describes the files.
#pragma once

namespace latbench {

// Execute one verb; a failure is printed as a message, with status 1. Returns the exit status.
int script(int count, char** arguments);

}  // namespace latbench
