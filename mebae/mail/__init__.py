"""Mail, from Markdown to a delivered message: `rendering` → `message` → `transport`, and an `inbox` for development."""
