from fastapi import FastAPI
PAGE_PREFIX = "/scanloop"
def build_page():
    return FastAPI(title="Scanloop")
