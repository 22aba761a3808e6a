#include "messages.h"

#include "json.h"

namespace latbench {

std::string failed(const Failure& failure) {
    json::Members told;
    told.text("type", "failed")
        .text("stage", failure.stage)
        .text("kind", failure.kind)
        .text("message", failure.message)
        .text("hint", failure.hint);
    if (failure.detail) told.text("detail", failure.detail);
    return told.done();
}

std::string refused(const Refusal& refusal) {
    return json::Members()
        .text("type", "refused")
        .text("message", refusal.message)
        .text("hint", refusal.hint)
        .done();
}

}  // namespace latbench
