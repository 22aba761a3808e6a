import Foundation
import LatbenchWorker

// The Mac program: a conversation on standard input and output, or a job's script.

let arguments = Array(CommandLine.arguments.dropFirst())

func fail(_ text: String) -> Never {
    FileHandle.standardError.write(Data("\(text)\n".utf8))
    exit(1)
}

switch arguments.first {
case nil:
    converse(probe: .plain)
case "--version":
    print("latbench-apple \(workerVersion), protocol 2")
case "script" where arguments.count >= 3 && arguments[1] == "run":
    let folder = URL(fileURLWithPath: arguments[2])
    var lines: Range<Int>?
    if arguments.count > 3 {
        guard arguments.count == 5, arguments[3] == "--lines", let given = readRange(arguments[4])
        else { fail("usage: latbench-apple script run FOLDER [--lines FIRST:END]") }
        lines = given
    }
    // Relative paths are relative to the folder that holds `jobs`.
    let base = folder.deletingLastPathComponent().deletingLastPathComponent()
    let place = Script.Place(input: folder, output: folder, base: base)
    let processes = lines == nil ? "one" : "one for each part of the script"
    let script = Script(at: place, probe: .plain, facts: ["processes": processes])
    // The default of SIGTERM would end the process before the status is written.
    signal(SIGTERM, SIG_IGN)
    let canceled = DispatchSource.makeSignalSource(signal: SIGTERM, queue: .global())
    canceled.setEventHandler {
        _ = script.interrupt("canceled", state: "canceled")
        _exit(0)
    }
    canceled.resume()
    let end = script.run(lines)
    print(end.said)
    exit(end.failed ? 1 : 0)
default:
    fail("usage: latbench-apple [script run FOLDER [--lines FIRST:END] | --version]")
}
