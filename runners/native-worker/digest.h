// Digests: SHA-256 (FIPS 180-4) of files, and the CRC-32 of zip archives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace latbench {

// Hexadecimal digest of the file at `path`; nothing if it cannot be read.
std::optional<std::string> file_sha256(const std::string& path);

std::string sha256(const void* data, std::size_t size);

std::uint32_t crc32(const void* data, std::size_t size);

}  // namespace latbench
