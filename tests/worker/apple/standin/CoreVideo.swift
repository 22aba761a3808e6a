// A stand-in for the part of Core Video that the worker uses, with the declarations of Apple's
// documentation. Rows are padded, as real ones are.

import Foundation

public typealias CFDictionary = NSDictionary
public typealias OSType = UInt32
public typealias CVReturn = Int32

public let kCVPixelFormatType_32BGRA: OSType = 0x4247_5241
public let kCVPixelFormatType_OneComponent8: OSType = 0x4C30_3038
public let kCVPixelFormatType_OneComponent16Half: OSType = 0x4C30_3068

public final class CVPixelBuffer {
    let width, height, rowBytes: Int
    let format: OSType
    let base: UnsafeMutableRawPointer

    init(_ width: Int, _ height: Int, _ format: OSType) {
        let pixelBytes = [kCVPixelFormatType_32BGRA: 4, kCVPixelFormatType_OneComponent8: 1]
        self.width = width
        self.height = height
        self.format = format
        rowBytes = (width * (pixelBytes[format] ?? 2) / 64 + 1) * 64
        base = .allocate(byteCount: rowBytes * height, alignment: 64)
    }

    deinit { base.deallocate() }
}

public struct CVPixelBufferLockFlags: OptionSet, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static let readOnly = CVPixelBufferLockFlags(rawValue: 1)
}

@discardableResult
public func CVPixelBufferCreate(
    _ allocator: AnyObject?, _ width: Int, _ height: Int, _ pixelFormatType: OSType,
    _ pixelBufferAttributes: CFDictionary?,
    _ pixelBufferOut: UnsafeMutablePointer<CVPixelBuffer?>
) -> CVReturn {
    pixelBufferOut.pointee = CVPixelBuffer(width, height, pixelFormatType)
    return 0
}

@discardableResult
public func CVPixelBufferLockBaseAddress(
    _ pixelBuffer: CVPixelBuffer, _ lockFlags: CVPixelBufferLockFlags
) -> CVReturn { 0 }

@discardableResult
public func CVPixelBufferUnlockBaseAddress(
    _ pixelBuffer: CVPixelBuffer, _ unlockFlags: CVPixelBufferLockFlags
) -> CVReturn { 0 }

public func CVPixelBufferGetBaseAddress(_ pixelBuffer: CVPixelBuffer) -> UnsafeMutableRawPointer? {
    pixelBuffer.base
}

public func CVPixelBufferGetBytesPerRow(_ pixelBuffer: CVPixelBuffer) -> Int { pixelBuffer.rowBytes }
public func CVPixelBufferGetWidth(_ pixelBuffer: CVPixelBuffer) -> Int { pixelBuffer.width }
public func CVPixelBufferGetHeight(_ pixelBuffer: CVPixelBuffer) -> Int { pixelBuffer.height }
public func CVPixelBufferGetPixelFormatType(_ pixelBuffer: CVPixelBuffer) -> OSType {
    pixelBuffer.format
}
