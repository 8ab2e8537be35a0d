"""Drafting: an issue's file, its blocks and merge fields, and new issues made from content."""

from newsletter.drafting.blocks import BLOCKS, Attribute, BlockType
from newsletter.drafting.files import (
    check_slug,
    create_issue,
    issue_digest,
    issue_path,
    list_issues,
    load_issue,
    read_issue,
    source_lines,
)
from newsletter.drafting.issue import Block, Issue
from newsletter.drafting.merge import MergeField, merge_fields, parse_merge
from newsletter.drafting.parse import merge_sources, parse_issue, walk, write_issue

__all__ = [
    "BLOCKS",
    "Attribute",
    "Block",
    "BlockType",
    "Issue",
    "MergeField",
    "check_slug",
    "create_issue",
    "issue_digest",
    "issue_path",
    "list_issues",
    "load_issue",
    "merge_fields",
    "merge_sources",
    "parse_issue",
    "parse_merge",
    "read_issue",
    "source_lines",
    "walk",
    "write_issue",
]
