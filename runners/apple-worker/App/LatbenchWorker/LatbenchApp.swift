import LatbenchWorker
import SwiftUI
import UIKit

/// Executes a part of a job that the harness has put into the container of the app.
///
/// Arguments: `run ID FIRST:END` executes lines of the script of the job ID and ends the app;
/// `hello` says what was installed and ends it. Without any, the app shows that it is there.
@main
struct LatbenchApp: App {
    @StateObject private var run = Run()
    @Environment(\.scenePhase) private var phase

    var body: some Scene {
        WindowGroup {
            VStack(alignment: .leading, spacing: 16) {
                Text("latbench").font(.largeTitle)
                Text(run.title)
                if let progress = run.progress {
                    ProgressView(value: progress)
                }
                Text("Thermal state: \(run.thermal)")
                Text("Leave this screen open while it measures.").font(.footnote)
            }
            .padding()
            .task { run.start() }
        }
        .onChange(of: phase) { now in
            if now == .background { run.leave() }
        }
    }
}

@MainActor
final class Run: ObservableObject {
    @Published var title = "Waiting for a job: start it from the computer."
    @Published var progress: Double?
    @Published var thermal = thermalStatus() ?? "unknown"

    private var script: Script?
    private var started = false

    func start() {
        if started { return }
        started = true
        UIApplication.shared.isIdleTimerDisabled = true
        UIDevice.current.isBatteryMonitoringEnabled = true
        // The launcher may add words of its own in front.
        let words = CommandLine.arguments.dropFirst().drop { $0 != "run" && $0 != "hello" }
        sayHello()
        guard let verb = words.first else { return }
        if verb == "hello" { end("hello \(workerVersion)", failed: false) }
        let given = Array(words.dropFirst())
        guard given.count == 2, let lines = readRange(given[1]) else {
            end("failed: the arguments are: run ID FIRST:END", failed: true)
        }
        execute(given[0], lines)
    }

    /// The system stops what is not on the screen, and measures it differently before.
    func leave() {
        guard let script = script else { return }
        let said = script.interrupt("the app was sent to the background").said
        end(said, failed: true)
    }

    private func execute(_ job: String, _ lines: Range<Int>) {
        let home = URL(fileURLWithPath: NSHomeDirectory())
        let documents = home.appendingPathComponent("Documents")
        // What the harness puts there belongs to another user, who lets nobody write beside it.
        let place = Script.Place(
            input: documents.appendingPathComponent("in-\(job)"),
            output: documents.appendingPathComponent("out-\(job)"), base: home)
        var facts = ["processes": "one for each part of the script"]
        if let sources = sourcesDigest() { facts["worker_sources_sha256"] = sources }
        let script = Script(at: place, probe: probe(), facts: facts) { [weak self] now in
            // Blocks are short: the screen changes only between lines.
            DispatchQueue.main.async { [weak self] in self?.show(now) }
        }
        self.script = script
        let thread = Thread {
            let ended = script.run(lines)
            DispatchQueue.main.async { end(ended.said, failed: ended.failed) }
        }
        // The main thread of an app has this priority too; Core ML wants its stack.
        thread.qualityOfService = .userInteractive
        thread.stackSize = 8 << 20
        thread.start()
    }

    private func show(_ now: Script.Progress) {
        title = "\(now.what)\n\(now.job), line \(now.line + 1) of \(now.lines)"
        progress = Double(now.line) / Double(max(now.lines, 1))
        thermal = thermalStatus() ?? "unknown"
    }

    private func probe() -> HostProbe {
        HostProbe(identity: UIDevice.current.identifierForVendor?.uuidString) {
            DispatchQueue.main.sync {
                MainActor.assumeIsolated {
                    let device = UIDevice.current
                    let level = device.batteryLevel
                    let state = device.batteryState
                    return HostProbe.Power(
                        batteryPercent: level < 0 ? nil : Int64((level * 100).rounded()),
                        charging: state == .unknown ? nil : state == .charging,
                        onBattery: state == .unknown ? nil : state == .unplugged)
                }
            }
        }
    }

    /// Tells the harness whether the installed app is that of its own sources.
    private func sayHello() {
        let home = URL(fileURLWithPath: NSHomeDirectory())
        let folder = home.appendingPathComponent("Documents/out-app")
        let told = [
            "program": programName, "version": workerVersion,
            "sources_sha256": sourcesDigest() ?? "", "bundle": Bundle.main.bundleIdentifier ?? "",
        ]
        try? FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let data = try? JSONSerialization.data(withJSONObject: told, options: .sortedKeys)
        try? data?.write(to: folder.appendingPathComponent("hello.json"), options: .atomic)
    }
}

private func sourcesDigest() -> String? {
    let found = Bundle.main.object(forInfoDictionaryKey: "LatbenchSources") as? String
    return found?.isEmpty == false ? found : nil
}

/// The last line on standard output, which `devicectl --console` shows.
private func end(_ said: String, failed: Bool) -> Never {
    print("latbench: \(said)")
    fflush(stdout)
    exit(failed ? 1 : 0)
}
