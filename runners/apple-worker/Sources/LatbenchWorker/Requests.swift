import Foundation

/// A request of the harness (docs/PROTOCOL.md). Unknown fields are ignored.
enum Request: Decodable, Sendable {
    case open(Open)
    case time(Time)
    case timeOperators
    case outputs
    case close
    case machine
    case conditions
    case capabilities([String])
    case signal(pid: Int64, name: String)
    case reserve(path: String, owner: String)

    struct Open: Decodable, Sendable {
        var backend: String
        var artifact: Artifact
        var path: String
        var threads: Int64
        var seed: Seed
        var process: Int64
        var extra: [String: String]
        var inputs: String?
        var pinned: Bool?
        var cpus: [Int64]?
    }

    struct Artifact: Decodable, Sendable {
        var precision: String
        var inputs: [TensorSpec]
        var outputs: [TensorSpec]
        var details: [String: String]
    }

    struct Time: Decodable, Sendable {
        var calls: Int64
        var settle: Int64?
        var period_ns: Int64?
    }

    /// A seed modulo 2⁶⁴, of which the formula of the inputs uses the lower half.
    struct Seed: Decodable, Sendable {
        var bits: UInt64

        init(from decoder: Decoder) throws {
            let value = try decoder.singleValueContainer()
            if let whole = try? value.decode(Int64.self) {
                bits = UInt64(bitPattern: whole)
            } else {
                bits = try value.decode(UInt64.self)
            }
        }
    }

    private enum Key: String, CodingKey {
        case type, calls, backends, pid, signal, path, owner
    }

    init(from decoder: Decoder) throws {
        let fields = try decoder.container(keyedBy: Key.self)
        switch try fields.decode(String.self, forKey: .type) {
        case "open": self = .open(try Open(from: decoder))
        case "time": self = .time(try Time(from: decoder))
        case "time_operators":
            _ = try fields.decode(Int64.self, forKey: .calls)
            self = .timeOperators
        case "outputs": self = .outputs
        case "close": self = .close
        case "machine": self = .machine
        case "conditions": self = .conditions
        case "capabilities":
            self = .capabilities(try fields.decode([String].self, forKey: .backends))
        case "signal":
            self = .signal(
                pid: try fields.decode(Int64.self, forKey: .pid),
                name: try fields.decode(String.self, forKey: .signal))
        case "reserve":
            self = .reserve(
                path: try fields.decode(String.self, forKey: .path),
                owner: try fields.decode(String.self, forKey: .owner))
        case let other:
            throw NotAMessage(reason: "unknown type \(shown(other))")
        }
    }

    /// The stage of a failure that names none itself.
    var stage: String {
        switch self {
        case .open: return "open"
        case .time, .timeOperators: return "time"
        case .outputs, .close: return "outputs"
        default: return "probe"
        }
    }
}

/// A tensor of an artifact.
struct TensorSpec: Decodable, Sendable {
    var name: String
    var shape: [Int]
    var dtype: String
    var content: String?
}
