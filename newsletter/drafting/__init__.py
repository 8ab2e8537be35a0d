"""Drafting: an issue's file, its blocks and merge fields, and new issues made from content."""

from newsletter.drafting.blocks import BLOCKS, Attribute, BlockType
from newsletter.drafting.choose import Chosen, choose_content, used_content
from newsletter.drafting.draft import Drafted, draft_issue
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
    "Chosen",
    "Drafted",
    "Issue",
    "MergeField",
    "check_slug",
    "choose_content",
    "create_issue",
    "draft_issue",
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
    "used_content",
    "walk",
    "write_issue",
]
