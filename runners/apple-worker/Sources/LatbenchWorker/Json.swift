import Foundation

/// What a response consists of. Members keep their order, and null is written out: some fields of
/// the protocol must be there even if they are not known.
enum Json {
    case null
    case flag(Bool)
    case number(Int64)
    case text(String)
    case array([Json])
    case object([(String, Json)])

    init(_ value: String?) { self = value.map { .text($0) } ?? .null }
    init(_ value: Bool?) { self = value.map { .flag($0) } ?? .null }
    init(_ value: Int64?) { self = value.map { .number($0) } ?? .null }
    init(_ values: [Int64]) { self = .array(values.map { .number($0) }) }
    init(_ values: [String: String]) {
        self = .object(values.sorted { $0.key < $1.key }.map { ($0.key, .text($0.value)) })
    }

    /// The value on one line, without a line break at its end.
    var line: String {
        var out = ""
        write(to: &out)
        return out
    }

    private func write(to out: inout String) {
        switch self {
        case .null: out += "null"
        case .flag(let value): out += value ? "true" : "false"
        case .number(let value): out += String(value)
        case .text(let value): Json.write(value, to: &out)
        case .array(let values):
            out += "["
            for (index, value) in values.enumerated() {
                if index > 0 { out += "," }
                value.write(to: &out)
            }
            out += "]"
        case .object(let members):
            out += "{"
            for (index, (name, value)) in members.enumerated() {
                if index > 0 { out += "," }
                Json.write(name, to: &out)
                out += ":"
                value.write(to: &out)
            }
            out += "}"
        }
    }

    private static func write(_ text: String, to out: inout String) {
        out += "\""
        // Outputs are megabytes of base64, which needs no escapes.
        if text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x22 && $0 != 0x5C }) {
            out += text
        } else {
            for scalar in text.unicodeScalars {
                switch scalar {
                case "\"": out += "\\\""
                case "\\": out += "\\\\"
                case "\n": out += "\\n"
                case "\r": out += "\\r"
                case "\t": out += "\\t"
                case _ where scalar.value < 0x20:
                    let digits = String(scalar.value, radix: 16)
                    out += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
                default: out.unicodeScalars.append(scalar)
                }
            }
        }
        out += "\""
    }
}

/// Reads a value from a line or a file. Throws ``NotAMessage``.
func decoded<T: Decodable>(_ type: T.Type, from data: Data) throws -> T {
    do {
        return try JSONDecoder().decode(type, from: data)
    } catch {
        throw NotAMessage(reason: "\(type): \(error)")
    }
}
