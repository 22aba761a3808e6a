"""Models written here, and the bridges to timm and to a user's own."""
