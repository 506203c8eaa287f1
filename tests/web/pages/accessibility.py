"""What axe-core finds wrong with a page; its untyped names stay in here."""

from importlib import import_module
from typing import Any

from playwright.async_api import Page


async def violations(page: Page) -> str:
    """The violations, for people to read; empty if there are none."""
    axe: Any = import_module("axe_playwright_python.async_playwright")
    found: Any = await axe.Axe().run(page)
    return str(found.generate_report()) if found.violations_count else ""
